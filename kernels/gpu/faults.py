"""What may befall a device. Knows neither torch nor Triton, so that callers may name it without loading them."""


class DeviceLost(RuntimeError):
    """The device failed: nothing on it can be used by this process any more."""
