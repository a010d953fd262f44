"""The training methods, one file each: views, encoders, loss and what is kept between steps."""
