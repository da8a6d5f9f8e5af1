"""The spine: all that changes over time, as Arrow record batches on a log with offsets."""
