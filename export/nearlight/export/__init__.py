"""From a training run or a public model to a proven bundle."""
