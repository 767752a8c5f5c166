package psktls

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"math"
)

// Kinds of records (RFC 8446, section 5.1).
const (
	recordChangeCipherSpec = 20
	recordAlert            = 21
	recordHandshake        = 22
	recordApplicationData  = 23
)

const (
	headerLen     = 5
	maxPlaintext  = 1 << 14            // RFC 8446, section 5.1
	maxCiphertext = maxPlaintext + 256 // RFC 8446, section 5.2
	tagLen        = 16                 // of every AEAD here

	// keyRecords is after how many records a key is given up for the next. RFC 8446, section
	// 5.5, allows AES-GCM 2^24.5 full records.
	keyRecords = 1 << 24
)

var (
	errBadRecord   = errors.New("a record does not open: it was changed on its way, or the two ends have different keys")
	errTooLong     = errors.New("a record is longer than TLS allows")
	errOnlyPadding = errors.New("a record is of no kind, nothing but padding")
	errSequence    = errors.New("too many records under one key")
)

// protection has the keys of one direction. Its zero value protects nothing: records pass
// in clear.
type protection struct {
	suite  *algorithms
	secret []byte // the traffic secret, from which the next one is made
	aead   cipher.AEAD
	iv     [12]byte
	nonce  [12]byte // where iv and seq are put together, to allocate nothing
	seq    uint64
}

// use sets the keys that follow from a traffic secret (RFC 8446, section 7.3), which the
// protection owns from then on.
func (p *protection) use(suite *algorithms, secret []byte) error {
	key := expandLabel(suite.hash, secret, "key", nil, suite.keyLen)
	defer clear(key)
	iv := expandLabel(suite.hash, secret, "iv", nil, len(p.iv))
	defer clear(iv)
	aead, err := suite.aead(key)
	if err != nil {
		return err
	}
	clear(p.secret)
	p.suite, p.secret, p.aead, p.seq = suite, secret, aead, 0
	copy(p.iv[:], iv)
	return nil
}

// update goes to the next generation of keys (RFC 8446, section 7.2).
func (p *protection) update() error {
	next := expandLabel(p.suite.hash, p.secret, "traffic upd", nil, len(p.secret))
	return p.use(p.suite, next)
}

// wipe forgets the keys.
func (p *protection) wipe() {
	clear(p.secret)
	clear(p.iv[:])
	clear(p.nonce[:])
	p.secret, p.aead, p.suite = nil, nil, nil
}

// next makes the nonce of the next record (RFC 8446, section 5.3).
func (p *protection) next() ([]byte, error) {
	if p.seq == math.MaxUint64 {
		return nil, errSequence
	}
	copy(p.nonce[:], p.iv[:])
	low := p.nonce[4:]
	binary.BigEndian.PutUint64(low, binary.BigEndian.Uint64(low)^p.seq)
	return p.nonce[:], nil
}

// seal appends a record with data, at most maxPlaintext bytes, to dst. Where dst has room
// for len(data) + 22 bytes it allocates nothing.
func (p *protection) seal(dst []byte, kind byte, data []byte) ([]byte, error) {
	if p.aead == nil {
		dst = append(dst, kind, 3, 3, byte(len(data)>>8), byte(len(data)))
		return append(dst, data...), nil
	}
	nonce, err := p.next()
	if err != nil {
		return dst, err
	}
	length := len(data) + 1 + tagLen
	begin := len(dst)
	dst = append(dst, recordApplicationData, 3, 3, byte(length>>8), byte(length))
	dst = append(dst, data...)
	dst = append(dst, kind)
	header, body := dst[begin:begin+headerLen], dst[begin+headerLen:]
	sealed := p.aead.Seal(body[:0], nonce, body, header)
	p.seq++
	if &sealed[0] != &body[0] { // dst had no room for the tag
		return append(dst[:begin+headerLen], sealed...), nil
	}
	return dst[:begin+headerLen+len(sealed)], nil
}

// open opens a record in place: data is a part of record. A record that does not open leaves
// p as it was. The zero bytes after the kind are padding (RFC 8446, section 5.4).
func (p *protection) open(record []byte) (kind byte, data []byte, err error) {
	header, body := record[:headerLen], record[headerLen:]
	nonce, err := p.next()
	if err != nil {
		return 0, nil, err
	}
	if len(body) < tagLen {
		return 0, nil, errBadRecord
	}
	data, err = p.aead.Open(body[:0], nonce, body, header)
	if err != nil {
		return 0, nil, errBadRecord
	}
	p.seq++
	if len(data) > maxPlaintext+1 {
		return 0, nil, errTooLong
	}
	for i := len(data) - 1; i >= 0; i-- {
		if data[i] != 0 {
			return data[i], data[:i], nil
		}
	}
	return 0, nil, errOnlyPadding
}
