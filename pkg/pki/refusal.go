package pki

import "errors"

import "fmt"

// Reason is why a peer was refused. It is an error, so that errors.Is(err, pki.Expired)
// holds, and a word, for the label of a counter.
type Reason string

// Why a peer is refused.
const (
	NoCertificate Reason = "no-certificate" // it sent none
	Expired       Reason = "expired"        // its certificate, or one above it, has expired
	NotYetValid   Reason = "not-yet-valid"  // … is not valid yet, by this machine's clock
	UnknownCA     Reason = "unknown-ca"     // no CA of ours has signed it
	WrongName     Reason = "wrong-name"     // a server's certificate is for other names than the one that was called
	NoName        Reason = "no-name"        // its certificate names no host, or not in a form that is allowed
	Revoked       Reason = "revoked"        // it is in the deny list or in a revocation list
	NotAllowed    Reason = "not-allowed"    // its name has no role
	OtherProtocol Reason = "other-protocol" // it asks for a protocol that is another port's
	BadUse        Reason = "bad-use"        // its certificate is for another use, or breaks a rule of X.509
	OldProtocol   Reason = "old-protocol"   // it speaks no TLS 1.3
	NotTLS        Reason = "not-tls"        // it speaks something else than TLS
	PeerRefused   Reason = "refused-by-peer"
	Broken        Reason = "broken" // the handshake ended in another way: a peer that went away, a deadline
)

// ReasonOf returns why a peer was refused, by an error of this package; Broken if it is none.
func ReasonOf(err error) Reason {
	var r Reason
	if errors.As(err, &r) {
		return r
	}
	return Broken
}

// Reasons has every Reason, for a counter with each of them.
var Reasons = []Reason{NoCertificate, Expired, NotYetValid, UnknownCA, WrongName, NoName, Revoked, NotAllowed, BadUse, OldProtocol, NotTLS, OtherProtocol, PeerRefused, Broken}

// Error returns the word.
func (r Reason) Error() string { return string(r) }

// Refusal is returned for a peer that is refused, or that refused us.
type Refusal struct {
	Reason Reason
	Text   string // what is wrong and what to do, for an administrator
	Err    error  // what TLS or X.509 said; may be nil
	Name   string // that the peer has proved, where it was refused for what it may do
}

// Error returns the text.
func (r *Refusal) Error() string { return r.Text }

// Unwrap returns the reason, and what TLS said.
func (r *Refusal) Unwrap() []error {
	if r.Err == nil {
		return []error{r.Reason}
	}
	return []error{r.Reason, r.Err}
}

func refuse(reason Reason, err error, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Text: fmt.Sprintf(format, args...), Err: err}
}
