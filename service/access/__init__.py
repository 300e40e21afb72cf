"""Who may ask, from where, and what browsers are told: keys, hosts, proxies, origins, headers, TLS."""
