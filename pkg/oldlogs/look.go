package oldlogs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/logscan"
	"github.com/auditfleet/auditfleet/pkg/record"
)

const (
	// lookBytes is how far into a file the first record may be.
	lookBytes = 1 << 20
	// firstLook is how far is looked first: most logs begin with a record.
	firstLook = 64 << 10
	// tailBytes is how much of a file's end is looked at for its last record.
	tailBytes = 64 << 10
	// headBytes is how much of the content Head is the sum of.
	headBytes = 4 << 10
	// beginBytes is how much of a file's beginning tells it from another: a log's first stamp
	// is there, and the checksum of the first block, or data, of what is compressed.
	beginBytes = 128
)

// segmentBegin is how files of pkg/seglog begin, which have records between bytes of their own.
var segmentBegin = []byte("AFSEGLOG")

// Sum is the SHA-256 of content.
type Sum [sha256.Size]byte

// look reads the beginning and the end of a file, which is no log where it has no record.
func (f *File) look(ctx context.Context, file *os.File) (err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	f.Size, f.Modified, f.dev, f.ino = info.Size(), info.ModTime(), st.Dev, st.Ino
	f.begin = make([]byte, min(f.Size, beginBytes))
	if _, err := file.ReadAt(f.begin, 0); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if bytes.HasPrefix(f.begin, segmentBegin) {
		return ErrSpool
	}
	src, isPacked, damage, err := logscan.Unpack(file)
	if err != nil {
		return err
	}
	defer func() {
		// What can be read before damage is a log. Read says the damage.
		if derr := damage(); err != nil && derr != nil {
			err = derr
		}
	}()
	f.Packed = isPacked
	head, atEnd, err := f.untilRecord(ctx, src)
	switch {
	case err != nil:
		return err
	case len(head) == 0:
		return ErrEmpty
	case f.First == 0 && atEnd:
		return ErrNoRecords
	case f.First == 0:
		return ErrFarRecords
	}
	f.Head = sha256.Sum256(head[:min(len(head), headBytes)])
	if isPacked {
		return nil
	}
	tail := make([]byte, min(tailBytes, f.Size))
	n, err := file.ReadAt(tail, f.Size-int64(len(tail)))
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read its end: %w", err)
	}
	f.Last = max(f.First, lastStamp(tail[:n]))
	return nil
}

// untilRecord reads as far as the first record.
func (f *File) untilRecord(ctx context.Context, src io.Reader) (head []byte, atEnd bool, err error) {
	head = make([]byte, firstLook)
	n := 0
	for f.First == 0 && !atEnd {
		if n == len(head) {
			if n >= lookBytes {
				break
			}
			head = slices.Concat(head, make([]byte, n))
		}
		m, err := io.ReadFull(bounded{ctx, src}, head[n:])
		n += m
		atEnd = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !atEnd {
			return nil, false, fmt.Errorf("read: %w", err)
		}
		whole := head[:n]
		if !atEnd { // a stamp that is cut off would be another time
			whole = whole[:bytes.LastIndexByte(whole, '\n')+1]
		}
		f.First, f.Named = firstStamp(whole)
	}
	return head[:n], atEnd, nil
}

// firstStamp returns the time of the first record in text, in milliseconds since 1970, and whether it names a host; 0
// where there is none.
func firstStamp(text []byte) (ms int64, named bool) {
	var r record.Record
	for line := range bytes.Lines(text) {
		if _ = r.Parse(line); r.IsRecord() && r.Ms() > 0 {
			return r.Ms(), len(r.Node) > 0
		}
	}
	return 0, false
}

// lastStamp is firstStamp from the end.
func lastStamp(text []byte) int64 {
	var r record.Record
	for len(text) > 0 {
		at := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
		if _ = r.Parse(text[at:]); r.IsRecord() && r.Ms() > 0 {
			return r.Ms()
		}
		text = text[:at]
	}
	return 0
}
