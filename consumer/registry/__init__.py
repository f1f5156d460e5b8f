"""Membership, discovery and keys: who we are to others, and which detectors and keys there are.

`base` is the interface. `static` answers from the settings, `etcd` from an etcd v3 cluster, `http`
from the older registry that speaks plain HTTP, and `local_etcd` runs a real etcd server for the
demo and the tests.
"""
