"""What frozen features know: nearest neighbours, linear probes, alignment, calibration."""
