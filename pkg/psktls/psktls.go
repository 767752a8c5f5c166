// Package psktls speaks TLS 1.3 with external pre-shared keys, as audit 4.2 does for the
// audisp-remote protocol and crypto/tls does not: both ends have a key that somebody has put
// there, the client says by an identity which one, and each proves to the other that it has
// it. There are no certificates, no resumption, no early data and no older version; always a
// fresh key exchange (psk_dhe_ke), so that a key that leaks opens no traffic of before.
//
// RFC 8446 is cited beside the code, FORMAT.md shows the bytes. The words of audit 4.2's
// configuration are read here, too: Settings, ReadKey and LoadAllowed.
//
// A handshake runs in its caller: there is no goroutine, and nothing is kept beside the Conn.
// The package imports the standard library and golang.org/x/crypto; whoever carries the
// protocol over a net.Conn may import it.
package psktls
