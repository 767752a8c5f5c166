// Package enroll is the protocol by which a host gets its certificate from a collector, and
// another one before that expires: one request and one reply on a TLS connection of their
// own (FORMAT.md). It imports nothing of ours; the collector and the forwarder import it.
package enroll

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The application protocols (ALPN) of both kinds of connection.
const (
	// Token is for who has no certificate yet, and shows a token.
	Token = "auditfleet-enroll/1"
	// Renew is for who has a certificate that is valid, and shows it in the handshake.
	Renew = "auditfleet-renew/1"
)

// MaxMessage is the largest message in bytes.
const MaxMessage = 32 << 10

// ErrMessage is returned for bytes that are no message of this protocol.
var ErrMessage = errors.New("is no message of the enrolment protocol")

// Request asks for a certificate.
type Request struct {
	Token   string `json:"token,omitempty"` // empty on a Renew connection
	Request []byte `json:"request"`         // a certificate request, PKCS #10 in DER
}

// Reply is the answer: a certificate, or why there is none.
type Reply struct {
	Certificate string `json:"certificate,omitempty"` // PEM, those between it and the CA behind it
	Error       string `json:"error,omitempty"`
}

// Write writes a message: a *Request or a *Reply.
func Write(w io.Writer, message any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(body) > MaxMessage {
		return fmt.Errorf("a message of %d bytes: %d are the most", len(body), MaxMessage)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

// Read reads a message into a *Request or a *Reply. The caller has set a deadline.
func Read(r io.Reader, message any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxMessage {
		return fmt.Errorf("what came %w: a length of %d bytes, where %d are the most", ErrMessage, n, MaxMessage)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	if err := json.Unmarshal(body, message); err != nil {
		return fmt.Errorf("what came %w", ErrMessage) // the cause may quote a token
	}
	return nil
}
