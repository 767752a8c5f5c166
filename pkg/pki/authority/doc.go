// Package authority is a small certificate authority (CA) in a folder, for those who have
// none: it issues certificates for hosts, lists and revokes them, and gives tokens that a
// host gets its certificate with, once. Everything is in files (FORMAT.md) and survives a
// crash at any moment; it speaks to no network. The programs' cli packages and the
// collector's server may import it.
package authority
