// Package nss finds the names of users and groups as the C library does: the
// local files, and where /etc/nsswitch.conf names other sources (LDAP, SSSD,
// systemd-userdb) those too, asked through getent or systemd's socket, as this
// program has no C library. Any package may import it; it imports nothing of
// ours.
//
// Two goroutines use a directory: a caller, which holds its mutex only to look at
// the cache, and helpers, which ask without holding it. There are no helpers
// while nothing is asked.
package nss
