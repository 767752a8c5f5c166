package layout

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/ledger"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/varint"
)

// BucketLedger is what is known of hosts' completeness. Partitions from before the ledger, and
// those without a word of any host, have none.
var BucketLedger = []byte("ledger")

// Kinds of keys in BucketLedger.
const (
	trackerKind   = 't'
	rowKind       = 'r'
	pastKind      = 'p'
	receivedKind  = 'd'
	classKind     = 'c'
	inheritedKind = 'i'
)

// What the keys of a kind begin with. Behind it, and in those of what was received behind the day, stand the length of a host's name, as a varint, and the name.
var (
	Pasts        = []byte{pastKind}
	Rows         = []byte{rowKind}
	AllReceived  = []byte{receivedKind}
	AllOfClasses = []byte{classKind}
)

// TrackerKey returns the key of what is followed of a host.
func TrackerKey(host string) []byte { return append([]byte{trackerKind}, host...) }

// TrackerHost returns the host of such a key; false where it is none.
func TrackerHost(key []byte) (string, bool) {
	if len(key) == 0 || key[0] != trackerKind {
		return "", false
	}
	return string(key[1:]), true
}

// InheritedKey returns the key of the mark that the rows of a part are here: its file is dropped. last is the
// part's last batch, for another part may have the name later, when the clock goes back.
func InheritedKey(part store.Part, last uint64) []byte {
	return fmt.Appendf([]byte{inheritedKind}, "%s#%d", part, last)
}

// EachInherited calls fn with each such mark, and with the last host that is here of the part; both are valid until
// it returns. Empty: all are.
func EachInherited(bkt *bbolt.Bucket, fn func(mark, last []byte)) {
	c := bkt.Cursor()
	for k, v := c.Seek([]byte{inheritedKind}); len(k) > 0 && k[0] == inheritedKind; k, v = c.Next() {
		if last, err := CutSum(k, v); err == nil {
			fn(k, last)
		}
	}
}

// PastKey returns the key of a host's past. Such keys sort as those of rows do.
func PastKey(host string) []byte {
	return append(binary.AppendUvarint([]byte{pastKind}, uint64(len(host))), host...)
}

// PastHost returns the host of such a key, a part of it; false where it is none.
func PastHost(key []byte) ([]byte, bool) {
	if len(key) == 0 || key[0] != pastKind {
		return nil, false
	}
	n, used := binary.Uvarint(key[1:])
	if used <= 0 || n != uint64(len(key)-1-used) {
		return nil, false
	}
	return key[1+used:], true
}

// Received is how much of what came of a host on a day happened on another one, or on the same: what is dropped of it with all that came on that day, where another
// engine has the events and rows are of no partition. With a class it is what of that is of one class of retention, whose events are dropped by themselves; that without
// one has all that is not dropped yet.
type Received struct {
	Day             store.Day // of receipt
	Class           string
	Host            string
	Start           int64 // of the day on which the events happened, in ms since 1970
	Records, Events uint64
	From, To        int64 // the hours of that day, in ms since 1970
}

// ReceivedFrom returns what the keys of a day of receipt, and of later ones, are not less than.
func ReceivedFrom(day store.Day) []byte { return receivedFrom(receivedKind, day) }

// ClassReceivedFrom is that of what came of classes.
func ClassReceivedFrom(day store.Day) []byte { return receivedFrom(classKind, day) }

func receivedFrom(kind byte, day store.Day) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, uint64(int64(day))+math.MaxInt64+1)
}

// Encode returns key and value.
func (r *Received) Encode() (key, value []byte) {
	key = ReceivedFrom(r.Day)
	if r.Class != "" {
		key = ClassReceivedFrom(r.Day)
	}
	key = append(binary.AppendUvarint(key, uint64(len(r.Host))), r.Host...)
	if r.Class != "" {
		key = append(binary.AppendUvarint(key, uint64(len(r.Class))), r.Class...)
	}
	key = binary.BigEndian.AppendUint64(key, uint64(r.Start)+math.MaxInt64+1)
	value = binary.AppendUvarint(binary.AppendUvarint(nil, r.Records), r.Events)
	value = append(value, byte((r.From-r.Start)/ledger.Hour), byte((r.To-r.Start)/ledger.Hour))
	return key, AddSum(key, value)
}

// DecodeReceived is the reverse; ok is false where the key is of another kind, or what stands there is damaged.
func DecodeReceived(key, value []byte) (r Received, ok bool) {
	var is bool
	if r.Day, is = ReceivedDay(key); !is {
		return r, false
	}
	rest := key[1+8:]
	if r.Host, rest, is = cutName(rest); is && key[0] == classKind {
		r.Class, rest, is = cutName(rest)
		is = is && r.Class != ""
	}
	if !is || len(rest) != 8 {
		return r, false
	}
	b, err := CutSum(key, value)
	if err != nil {
		return r, false
	}
	in := varint.NewReader(b)
	r.Records, r.Events = in.Uvarint(), in.Uvarint()
	hours := in.Bytes(2)
	if !in.Done() || hours[0] >= hours[1] || hours[1] > 24 {
		return r, false
	}
	r.Start = int64(binary.BigEndian.Uint64(rest) - math.MaxInt64 - 1)
	r.From, r.To = r.Start+int64(hours[0])*ledger.Hour, r.Start+int64(hours[1])*ledger.Hour
	return r, true
}

// cutName takes a name off that stands behind its length.
func cutName(b []byte) (name string, rest []byte, ok bool) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return "", nil, false
	}
	return string(b[used : used+int(n)]), b[used+int(n):], true //nolint:gosec // it is at most len(b)
}

// ReceivedDay returns the day of receipt that a key of that kind has, also of a class; false where it is none.
func ReceivedDay(key []byte) (store.Day, bool) {
	if len(key) < 1+8 || key[0] != receivedKind && key[0] != classKind {
		return 0, false
	}
	return store.Day(int64(binary.BigEndian.Uint64(key[1:]) - math.MaxInt64 - 1)), true
}

// rowKeyMore is at least what a row's key has beside the host's name.
const rowKeyMore = 1 + binary.MaxVarintLen16 + 1 + 8

// RowsOf returns what the keys of a host's rows begin with, and no other's.
func RowsOf(host string) []byte {
	key := append(make([]byte, 0, len(host)+rowKeyMore), rowKind)
	return append(binary.AppendUvarint(key, uint64(len(host))), host...)
}

// Before reports whether a host's keys sort before another's.
func Before(a, b []byte) bool {
	x, y := binary.AppendUvarint(nil, uint64(len(a))), binary.AppendUvarint(nil, uint64(len(b)))
	return bytes.Compare(append(x, a...), append(y, b...)) < 0
}

// RowKey returns the key of a row. Keys of a host sort by length and time.
func RowKey(host string, length, start int64) []byte {
	key := RowsOf(host)
	kind := byte('h')
	if length == ledger.Day {
		kind = 'd'
	}
	return binary.BigEndian.AppendUint64(append(key, kind), uint64(start)+math.MaxInt64+1)
}

// ParseRowKey is the reverse of RowKey; ok is false where the key is none. host is a part of key.
func ParseRowKey(key []byte) (host []byte, length, start int64, ok bool) {
	if len(key) == 0 || key[0] != rowKind {
		return nil, 0, 0, false
	}
	n, used := binary.Uvarint(key[1:])
	rest := key[1+max(used, 0):]
	if used <= 0 || n > uint64(len(rest)) || len(rest)-int(n) != 9 {
		return nil, 0, 0, false
	}
	host, rest = rest[:n], rest[n:]
	switch rest[0] {
	case 'h':
		length = ledger.Hour
	case 'd':
		length = ledger.Day
	default:
		return nil, 0, 0, false
	}
	return host, length, int64(binary.BigEndian.Uint64(rest[1:]) - math.MaxInt64 - 1), true
}

// RowSum adds up a partition's rows, by key, for the log of what was stored: how many there are, and the SHA-256 of
// each key and value behind its length.
type RowSum struct {
	Rows, Bytes uint64
	h           hash.Hash
	buf         []byte
}

// NewRowSum begins one.
func NewRowSum() *RowSum { return &RowSum{h: sha256.New()} }

// Add adds what stands under a key, where that is a row that can be read.
func (r *RowSum) Add(key, value []byte) {
	if _, _, _, ok := ParseRowKey(key); !ok {
		return
	}
	if _, err := CutSum(key, value); err != nil {
		return
	}
	b := binary.AppendUvarint(r.buf[:0], uint64(len(key)))
	b = binary.AppendUvarint(append(b, key...), uint64(len(value)))
	r.buf = append(b, value...)
	_, _ = r.h.Write(r.buf) // never fails
	r.Rows, r.Bytes = r.Rows+1, r.Bytes+uint64(len(key)+len(value))
}

// Sum returns the hash.
func (r *RowSum) Sum() [32]byte { return [32]byte(r.h.Sum(nil)) }

// EncodeRow returns a row's value under its key.
func EncodeRow(key []byte, r *ledger.Row) []byte {
	return AddSum(key, r.Append(make([]byte, 0, 48+8*len(r.Counts)+16*len(r.Entries))))
}

// DecodeRow is the reverse; store.ErrDamaged, ledger.ErrFormat.
func DecodeRow(key, value []byte, length, start int64) (*ledger.Row, error) {
	b, err := CutSum(key, value)
	if err != nil {
		return nil, err
	}
	return ledger.ParseRow(b, start, length)
}
