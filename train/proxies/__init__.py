"""Proxy tasks of other papers, on the same corpus, with the same network and the same loop; a module each."""
