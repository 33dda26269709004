"""DOMAIN: sessions as pure decisions over loaded rows, with the store that loads and writes them."""
