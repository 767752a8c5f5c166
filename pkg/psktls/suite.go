package psktls

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
)

// A Suite is a cipher suite of TLS 1.3 (RFC 8446, appendix B.4), by its number on the wire.
type Suite uint16

// The suites that this package has. The two with SHA-256 go with a pre-shared key as
// everybody takes it; AES256GCM goes with one whose hash is SHA-384, which both ends must
// have been told (see Config.Suites).
const (
	AES128GCM        Suite = 0x1301
	AES256GCM        Suite = 0x1302
	ChaCha20Poly1305 Suite = 0x1303
)

// algorithms is what a suite is made of.
type algorithms struct {
	suite  Suite
	name   string
	keyLen int
	aead   func(key []byte) (cipher.AEAD, error)
	hash   func() hash.Hash
}

var suites = []algorithms{
	{AES128GCM, "TLS_AES_128_GCM_SHA256", 16, newGCM, sha256.New},
	{ChaCha20Poly1305, "TLS_CHACHA20_POLY1305_SHA256", 32, chacha20poly1305.New, sha256.New},
	{AES256GCM, "TLS_AES_256_GCM_SHA384", 32, newGCM, sha512.New384},
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (s Suite) algorithms() *algorithms {
	for i := range suites {
		if suites[i].suite == s {
			return &suites[i]
		}
	}
	return nil
}

// String is the suite's name in RFC 8446, or suite(0xNNNN).
func (s Suite) String() string {
	if a := s.algorithms(); a != nil {
		return a.name
	}
	return fmt.Sprintf("suite(0x%04x)", uint16(s))
}

// KeyBits is the length of the suite's keys, in bits; 0 for a suite that this package has not.
func (s Suite) KeyBits() int {
	if a := s.algorithms(); a != nil {
		return a.keyLen * 8
	}
	return 0
}
