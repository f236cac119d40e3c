"""A small certificate authority for a first evening: `fairlead certs`.

Reading guide: `issuing.py` makes certificates in memory; `store.py` is the folder they live in and decides what
is due.
"""

from fairlead.certs.issuing import Authority, Issued, new_authority
from fairlead.certs.store import CLIENT_DOMAIN, CertStore, Entry, StoreError

__all__ = ["CLIENT_DOMAIN", "Authority", "CertStore", "Entry", "Issued", "StoreError", "new_authority"]
