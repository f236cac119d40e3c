"""Stubs made from `protos/fairlead/v1` by `make stubs`; do not edit."""
