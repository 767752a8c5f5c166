package pki

import "crypto/tls"

// Session is what is recorded of a TLS connection: how it is protected, and by what the peer
// has proved who it is.
type Session struct {
	Cipher string // TLS_AES_128_GCM_SHA256
	Bits   int    // of its key
	Group  string // of the key exchange: X25519MLKEM768
	Auth   string // what the peer proved itself with: AuthCert, AuthPSK or AuthToken
}

// What a peer proves itself with.
const (
	AuthCert  = "cert"
	AuthPSK   = "psk"
	AuthToken = "token" // for its certificate, once
)

// SessionOf returns what is recorded of a connection whose handshake is over, and whose peer
// has shown a certificate.
func SessionOf(state tls.ConnectionState) Session {
	s := Session{Cipher: tls.CipherSuiteName(state.CipherSuite), Bits: 256, Group: state.CurveID.String(), Auth: AuthCert}
	if state.CipherSuite == tls.TLS_AES_128_GCM_SHA256 {
		s.Bits = 128
	}
	return s
}
