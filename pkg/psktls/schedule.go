package psktls

import (
	"crypto/hkdf"
	"crypto/hmac"
	"hash"
)

// schedule is the key schedule of RFC 8446, section 7.1, for one handshake. secret is the
// one of the present stage: early, handshake, master. Each stage clears the one before.
type schedule struct {
	hash   func() hash.Hash
	size   int
	secret []byte
}

// newSchedule begins with the pre-shared key.
func newSchedule(h func() hash.Hash, key []byte) *schedule {
	s := &schedule{hash: h, size: h().Size()}
	s.secret = s.extract(key, nil)
	return s
}

func (s *schedule) extract(secret, salt []byte) []byte {
	prk, err := hkdf.Extract(s.hash, secret, salt)
	if err != nil {
		panic("psktls: HKDF-Extract: " + err.Error()) // the FIPS module refuses only what is never asked for: keys under 14 bytes
	}
	return prk
}

// expandLabel is HKDF-Expand-Label. label is without "tls13 ".
func expandLabel(h func() hash.Hash, secret []byte, label string, context []byte, length int) []byte {
	info := make([]byte, 0, 4+6+len(label)+len(context))
	info = append(info, byte(length>>8), byte(length), byte(6+len(label)))
	info = append(info, "tls13 "...)
	info = append(info, label...)
	info = append(info, byte(len(context)))
	info = append(info, context...)
	out, err := hkdf.Expand(h, secret, string(info), length)
	if err != nil {
		panic("psktls: HKDF-Expand: " + err.Error()) // the lengths are ours, and short
	}
	return out
}

// derive is Derive-Secret with the hash of the messages so far.
func (s *schedule) derive(label string, transcript []byte) []byte {
	return expandLabel(s.hash, s.secret, label, transcript, s.size)
}

// advance goes to the next stage with what has been agreed on, nil where there is nothing.
func (s *schedule) advance(agreed []byte) {
	if agreed == nil {
		agreed = make([]byte, s.size)
	}
	salt := s.derive("derived", s.hash().Sum(nil))
	next := s.extract(agreed, salt)
	clear(salt)
	clear(s.secret)
	s.secret = next
}

// binder proves that the client has the key (RFC 8446, section 4.2.11.2). transcript is the
// hash of the hello up to its binders. It belongs to the first stage.
func (s *schedule) binder(transcript []byte) []byte {
	key := s.derive("ext binder", s.hash().Sum(nil))
	defer clear(key)
	return finished(s.hash, key, transcript)
}

// finished is the verify_data of a Finished message (RFC 8446, section 4.4.4) under an
// end's traffic secret.
func finished(h func() hash.Hash, secret, transcript []byte) []byte {
	key := expandLabel(h, secret, "finished", nil, h().Size())
	defer clear(key)
	mac := hmac.New(h, key)
	mac.Write(transcript)
	return mac.Sum(nil)
}
