package layout

import (
	"encoding/binary"
	"errors"
	"fmt"

	bbolt "go.etcd.io/bbolt"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/seglog"
)

// The names of a partition's buckets, and of the marks in BucketMarks, which every file has.
var (
	BucketMarks   = []byte("auditfleet")
	BucketGroups  = []byte("groups")
	BucketCatalog = []byte("catalog")
	BucketHosts   = []byte("hosts")
	BucketSenders = []byte("senders") // of the file Senders

	KeyFormat = []byte("format")
	KeyDay    = []byte("day")
	KeyPart   = []byte("part")
	KeyStore  = []byte("store")
	KeyState  = []byte("state")
	KeyGroup  = []byte("g") // in a group's own bucket
)

// PartitionBuckets names the buckets that every partition has.
var PartitionBuckets = [][]byte{BucketMarks, BucketGroups, BucketCatalog, BucketHosts}

// Formats of the files, as the value of KeyFormat has them.
const (
	PartitionFormat = 1
	// SendersFormat is that of the file Senders whose values end with a checksum; those of
	// a file of format 1 do not.
	SendersFormat = 2
)

// GroupKey returns a batch's key in BucketGroups and BucketCatalog. Keys sort as IDs do.
func GroupKey(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

// NewPartition makes the buckets of an empty partition, and its marks. A zero id is left
// out.
func NewPartition(tx *bbolt.Tx, part store.Part, id seglog.ID) error {
	for _, name := range PartitionBuckets {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	marks := tx.Bucket(BucketMarks)
	return errors.Join(putFormat(marks, PartitionFormat), putPart(marks, part), PutID(marks, id))
}

// NewSenders makes the buckets of an empty file of senders, and its marks.
func NewSenders(tx *bbolt.Tx, id seglog.ID) error {
	marks, err := tx.CreateBucket(BucketMarks)
	if err != nil {
		return err
	}
	if _, err := tx.CreateBucket(BucketSenders); err != nil {
		return err
	}
	return errors.Join(putFormat(marks, SendersFormat), PutID(marks, id))
}

func putFormat(marks *bbolt.Bucket, format uint32) error {
	return marks.Put(KeyFormat, binary.LittleEndian.AppendUint32(nil, format))
}

// PutID writes the store's ID into a file's marks; for the zero ID it writes nothing.
func PutID(marks *bbolt.Bucket, id seglog.ID) error {
	if id == (seglog.ID{}) {
		return nil
	}
	return marks.Put(KeyStore, AddSum(KeyStore, id[:]))
}

// DecodeID reads the value of KeyStore; nil is the zero ID. The value has a checksum:
// without one, a flipped bit would make the file another store's.
func DecodeID(v []byte) (id seglog.ID, err error) {
	if v == nil {
		return id, nil
	}
	b, err := CutSum(KeyStore, v)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%w: store mark of %d bytes", store.ErrDamaged, len(v))
	}
	copy(id[:], b)
	return id, nil
}

// CheckFormat checks the value of KeyFormat in a partition. The folder's marker promises that
// no file in it is of a newer format, so another number is damage.
func CheckFormat(v []byte) error {
	if len(v) != 4 {
		return fmt.Errorf("%w: format mark of %d bytes", store.ErrDamaged, len(v))
	}
	if n := binary.LittleEndian.Uint32(v); n != PartitionFormat {
		return fmt.Errorf("%w: format mark of version %d in a store of format %d", store.ErrDamaged, n, PartitionFormat)
	}
	return nil
}

// putPart writes into a partition which one it is. A day's first partition has no number,
// as in stores of version 1, which have one a day.
func putPart(marks *bbolt.Bucket, part store.Part) error {
	if err := marks.Put(KeyDay, binary.LittleEndian.AppendUint32(nil, uint32(part.Day))); err != nil || part.N <= 1 {
		return err
	}
	return marks.Put(KeyPart, binary.LittleEndian.AppendUint32(nil, uint32(part.N)))
}

// CheckPart compares what putPart wrote with part, which the file is by its name.
func CheckPart(day, number []byte, part store.Part) error {
	switch n := uint32(1); {
	case len(day) != 4 || store.Day(binary.LittleEndian.Uint32(day)) != part.Day:
		return fmt.Errorf("%w: it says it is of another day: %x", store.ErrDamaged, day)
	case number != nil && len(number) != 4:
		return fmt.Errorf("%w: number mark of %d bytes", store.ErrDamaged, len(number))
	case number != nil && binary.LittleEndian.Uint32(number) != uint32(part.N), number == nil && n != uint32(part.N):
		return fmt.Errorf("%w: it says it is another one of its day: %x", store.ErrDamaged, number)
	}
	return nil
}
