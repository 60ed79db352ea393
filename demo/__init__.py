"""The sample bucket: real photographs from two wheels, and points annotated on them by hand."""
