"""The version of this product: that of the package, of both documents and of the NATS micro services."""

VERSION = "0.1.0"
