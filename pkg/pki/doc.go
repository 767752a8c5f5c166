// Package pki says who is at the other end of a TLS connection and what they may do there.
// A Trust is made from files (a certificate, its key, CAs, a deny list, a revocation list),
// follows them as they change, and gives the configurations of TLS servers and clients that
// ask it at each handshake. It speaks to no network and knows no protocol above TLS; every
// transport of both programs may import it. pkg/pki/authority is the small CA.
//
// Locks: Trust.reading is taken before Trust.mu.
package pki
