// Package nss finds the names of users and groups as the C library does: the
// local files, and where /etc/nsswitch.conf names other sources (LDAP, SSSD,
// systemd-userdb) those too, asked through getent or systemd's socket, as this
// program has no C library. Any package may import it; it imports nothing of
// ours.
//
// Callers and helpers use a directory at once: a caller holds its mutex only to read and
// change the cache, and helpers, goroutines that ask the sources, do not hold it while
// they ask. No helper runs while nothing is to be asked.
package nss
