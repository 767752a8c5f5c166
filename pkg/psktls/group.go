package psktls

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A Group is a way of agreeing on a secret (RFC 8446, section 4.2.7), by its number on the
// wire.
type Group uint16

// The groups that this package has. The three of the middle row are hybrids
// (draft-ietf-tls-ecdhe-mlkem, section 4): who wants their secret must break both the
// curve and ML-KEM. MLKEM768 and MLKEM1024 are ML-KEM alone (draft-ietf-tls-mlkem).
const (
	P256   Group = 0x0017
	P384   Group = 0x0018
	P521   Group = 0x0019
	X25519 Group = 0x001d

	SecP256r1MLKEM768  Group = 0x11eb
	X25519MLKEM768     Group = 0x11ec
	SecP384r1MLKEM1024 Group = 0x11ed

	MLKEM768  Group = 0x0201
	MLKEM1024 Group = 0x0202
)

// exchange is how the two ends of a group agree: by a curve, by ML-KEM, or by both. What is
// sent, and the secrets, follow one another with no length between them; kemFirst says in
// which order.
type exchange struct {
	group    Group
	name     string
	also     []string // other names that OpenSSL knows the group by
	curve    ecdh.Curve
	point    int // length of the curve's public key
	scalar   int // length of its private key
	kem      *kem
	kemFirst bool
}

// kem is one size of ML-KEM (FIPS 203).
type kem struct {
	public, answer int // lengths of the encapsulation key and of the ciphertext
	generate       func(seed []byte) (decapsulator, []byte, error)
	encapsulate    func(public []byte) (secret, answer []byte, err error)
}

type decapsulator interface {
	Decapsulate(answer []byte) (secret []byte, err error)
}

var mlkem768 = &kem{
	public: mlkem.EncapsulationKeySize768, answer: mlkem.CiphertextSize768,
	generate: func(seed []byte) (decapsulator, []byte, error) {
		key, err := mlkem.NewDecapsulationKey768(seed)
		if err != nil {
			return nil, nil, err
		}
		return key, key.EncapsulationKey().Bytes(), nil
	},
	encapsulate: func(public []byte) ([]byte, []byte, error) {
		key, err := mlkem.NewEncapsulationKey768(public)
		if err != nil {
			return nil, nil, err
		}
		secret, answer := key.Encapsulate()
		return secret, answer, nil
	},
}

var mlkem1024 = &kem{
	public: mlkem.EncapsulationKeySize1024, answer: mlkem.CiphertextSize1024,
	generate: func(seed []byte) (decapsulator, []byte, error) {
		key, err := mlkem.NewDecapsulationKey1024(seed)
		if err != nil {
			return nil, nil, err
		}
		return key, key.EncapsulationKey().Bytes(), nil
	},
	encapsulate: func(public []byte) ([]byte, []byte, error) {
		key, err := mlkem.NewEncapsulationKey1024(public)
		if err != nil {
			return nil, nil, err
		}
		secret, answer := key.Encapsulate()
		return secret, answer, nil
	},
}

var exchanges = []exchange{
	{group: X25519MLKEM768, name: "X25519MLKEM768", curve: ecdh.X25519(), point: 32, scalar: 32, kem: mlkem768, kemFirst: true},
	{group: SecP256r1MLKEM768, name: "SecP256r1MLKEM768", curve: ecdh.P256(), point: 65, scalar: 32, kem: mlkem768},
	{group: SecP384r1MLKEM1024, name: "SecP384r1MLKEM1024", curve: ecdh.P384(), point: 97, scalar: 48, kem: mlkem1024},
	{group: MLKEM768, name: "MLKEM768", kem: mlkem768},
	{group: MLKEM1024, name: "MLKEM1024", kem: mlkem1024},
	{group: X25519, name: "X25519", curve: ecdh.X25519(), point: 32, scalar: 32},
	{group: P256, name: "P-256", also: []string{"secp256r1", "prime256v1"}, curve: ecdh.P256(), point: 65, scalar: 32},
	{group: P384, name: "P-384", also: []string{"secp384r1"}, curve: ecdh.P384(), point: 97, scalar: 48},
	{group: P521, name: "P-521", also: []string{"secp521r1"}, curve: ecdh.P521(), point: 133, scalar: 66},
}

func (g Group) exchange() *exchange {
	for i := range exchanges {
		if exchanges[i].group == g {
			return &exchanges[i]
		}
	}
	return nil
}

// String is the group's name as OpenSSL has it, or group(0xNNNN).
func (g Group) String() string {
	if x := g.exchange(); x != nil {
		return x.name
	}
	return fmt.Sprintf("group(0x%04x)", uint16(g))
}

// PostQuantum says whether the group's secret holds against a quantum computer: whether
// ML-KEM is in it.
func (g Group) PostQuantum() bool {
	x := g.exchange()
	return x != nil && x.kem != nil
}

// groupByName finds a group by a name that OpenSSL takes for it, in any case of letters.
func groupByName(name string) (Group, bool) {
	for i := range exchanges {
		if strings.EqualFold(exchanges[i].name, name) {
			return exchanges[i].group, true
		}
		for _, also := range exchanges[i].also {
			if strings.EqualFold(also, name) {
				return exchanges[i].group, true
			}
		}
	}
	return 0, false
}

// keyShare is a group and what one end sends for it (RFC 8446, section 4.2.8).
type keyShare struct {
	group Group
	data  []byte
}

// keyPair is what the client keeps for a key share that it has sent.
type keyPair struct {
	share keyShare
	ec    *ecdh.PrivateKey
	kem   decapsulator
}

// newKeyPair makes the client's part. Where ec is a key of the group's curve it is used
// again: the client may send one public key in a hybrid and alone (draft-ietf-tls-hybrid-design,
// section 3.2).
func newKeyPair(group Group, random io.Reader, ec *ecdh.PrivateKey) (*keyPair, error) {
	x := group.exchange()
	if x == nil {
		return nil, fmt.Errorf("tls: this program does not have the group %v", group)
	}
	pair := &keyPair{share: keyShare{group: group}}
	var point, public []byte
	if x.curve != nil {
		if ec == nil || ec.Curve() != x.curve {
			var err error
			if ec, err = newScalar(x, random); err != nil {
				return nil, err
			}
		}
		pair.ec, point = ec, ec.PublicKey().Bytes()
	}
	if x.kem != nil {
		var seed [mlkem.SeedSize]byte
		defer clear(seed[:])
		if err := readRandom(random, seed[:]); err != nil {
			return nil, err
		}
		var err error
		if pair.kem, public, err = x.kem.generate(seed[:]); err != nil {
			return nil, err
		}
	}
	pair.share.data = x.join(point, public)
	return pair, nil
}

// readRandom fills b. That it fails is no error of the network, whatever the reader says.
func readRandom(random io.Reader, b []byte) error {
	if _, err := io.ReadFull(random, b); err != nil {
		return errors.New("tls: no random bytes: " + err.Error())
	}
	return nil
}

// newScalar draws a private key of the group's curve. Not every number is one: another is
// drawn then (for P-256 that is once in four billion times).
func newScalar(x *exchange, random io.Reader) (*ecdh.PrivateKey, error) {
	scalar := make([]byte, x.scalar)
	defer clear(scalar)
	var err error
	for range 100 {
		if err := readRandom(random, scalar); err != nil {
			return nil, err
		}
		if x.scalar == 66 {
			scalar[0] &= 1 // P-521 has 521 bits
		}
		var key *ecdh.PrivateKey
		if key, err = x.curve.NewPrivateKey(scalar); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("tls: no key for %s can be made: %w", x.name, err)
}

// join puts the curve's part and ML-KEM's part of a share, or of a secret, in their order.
func (x *exchange) join(curve, kem []byte) []byte {
	if x.kemFirst {
		curve, kem = kem, curve
	}
	return append(append(make([]byte, 0, len(curve)+len(kem)), curve...), kem...)
}

// split divides a share whose part of ML-KEM is kemLen long.
func (x *exchange) split(share []byte, kemLen int) (curve, kem []byte, err error) {
	if len(share) != x.point+kemLen {
		return nil, nil, fmt.Errorf("a key share of %s is %d bytes long, not %d", x.name, len(share), x.point+kemLen)
	}
	if x.kemFirst {
		return share[kemLen:], share[:kemLen], nil
	}
	return share[:x.point], share[x.point:], nil
}

// secret is what the client agrees on with the server that answered with share. Its caller
// clears it.
func (p *keyPair) secret(share []byte) ([]byte, error) {
	x := p.share.group.exchange()
	kemLen := 0
	if x.kem != nil {
		kemLen = x.kem.answer
	}
	point, answer, err := x.split(share, kemLen)
	if err != nil {
		return nil, err
	}
	var shared, encapsulated []byte
	defer func() { clear(shared); clear(encapsulated) }()
	if x.curve != nil {
		if shared, err = diffieHellman(x, p.ec, point); err != nil {
			return nil, err
		}
	}
	if x.kem != nil {
		if encapsulated, err = p.kem.Decapsulate(answer); err != nil {
			return nil, err
		}
	}
	return x.join(shared, encapsulated), nil
}

// answer makes the server's part for the client's share, and the secret, which its caller
// clears.
func answer(client keyShare, random io.Reader) (share keyShare, secret []byte, err error) {
	x := client.group.exchange()
	kemLen := 0
	if x.kem != nil {
		kemLen = x.kem.public
	}
	point, public, err := x.split(client.data, kemLen)
	if err != nil {
		return keyShare{}, nil, err
	}
	var shared, encapsulated, own, ciphertext []byte
	defer func() { clear(shared); clear(encapsulated) }()
	if x.curve != nil {
		key, err := newScalar(x, random)
		if err != nil {
			return keyShare{}, nil, err
		}
		if shared, err = diffieHellman(x, key, point); err != nil {
			return keyShare{}, nil, err
		}
		own = key.PublicKey().Bytes()
	}
	if x.kem != nil {
		if encapsulated, ciphertext, err = x.kem.encapsulate(public); err != nil {
			return keyShare{}, nil, err
		}
	}
	return keyShare{client.group, x.join(own, ciphertext)}, x.join(shared, encapsulated), nil
}

// diffieHellman refuses points that are not on the curve, and X25519's all-zero secret
// (RFC 8446, section 7.4.2), as crypto/ecdh does.
func diffieHellman(x *exchange, key *ecdh.PrivateKey, point []byte) ([]byte, error) {
	public, err := x.curve.NewPublicKey(point)
	if err != nil {
		return nil, err
	}
	return key.ECDH(public)
}
