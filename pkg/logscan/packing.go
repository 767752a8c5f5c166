package logscan

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is the largest window that a zstd frame may ask for, in bytes. zstd -19 asks
// for 8 MiB, --long=27 for 128 MiB.
const maxWindow = 128 << 20

// sniffed is how much of a file's beginning says what it is.
const sniffed = 512

// A decoder opens what is compressed in in. With ahead it may read in before it is asked to.
// stop releases what it took.
type decoder func(in io.Reader, ahead bool) (r io.Reader, stop func(), err error)

// readable are the compressions that are read, by the first bytes of a file. Two are
// bzip2's: the second is that of a file with nothing in it. A zstd file may begin with a
// frame to be skipped, as those of pzstd do: see isZstd.
var readable = [...]struct {
	magic string // a zero stands for any byte
	open  decoder
}{
	{"\x1f\x8b", openGzip}, {"\x28\xb5\x2f\xfd", openZstd}, {xzMagic[:5], openXZ},
	{"BZh\x001AY&SY", openBzip2}, {"BZh\x00\x17\x72\x45\x38\x50\x90", openBzip2},
}

// unreadable are compressions and archives that are known by sight only.
var unreadable = [...]struct{ magic, name, unpack string }{
	{"\x04\x22\x4d\x18", "lz4", "unlz4"}, {"LZIP", "lzip", "lzip -d"}, {"PK\x03\x04", "zip", "unzip"}, {"7z\xbc\xaf\x27\x1c", "7-Zip", "7z x"},
	{"\x5d\x00\x00", "lzma", "unlzma"}, {"\x1f\x9d", "compress", "uncompress"}, {"\x89LZO", "lzop", "lzop -d"},
}

// tarMagic stands at tarAt in the first header of an archive of tar, of GNU's and of POSIX'.
const (
	tarMagic = "ustar"
	tarAt    = 257
)

var errTar = errors.New("packed with tar, which is not read: unpack it first, as tar -x does")

// decoderOf tells from a file's first bytes how it is compressed; nil where it is not. It
// refuses what is compressed or packed otherwise.
func decoderOf(begin []byte) (decoder, error) {
	for _, known := range readable {
		if len(begin) >= len(known.magic) && begins(begin, known.magic) {
			return known.open, nil
		}
	}
	if isZstd(begin) {
		return openZstd, nil
	}
	for _, other := range unreadable {
		if bytes.HasPrefix(begin, []byte(other.magic)) {
			return nil, fmt.Errorf("compressed with %s, which is not read: unpack it first, as %s does", other.name, other.unpack)
		}
	}
	if len(begin) > tarAt && bytes.HasPrefix(begin[tarAt:], []byte(tarMagic)) {
		return nil, errTar
	}
	return nil, nil
}

// begins reports whether the bytes that both have are the same.
func begins(b []byte, magic string) bool {
	for i := range min(len(b), len(magic)) {
		if b[i] != magic[i] && magic[i] != 0 {
			return false
		}
	}
	return true
}

// isZstd reports whether b begins with one of the sixteen frames of zstd that are skipped.
func isZstd(b []byte) bool {
	return len(b) >= 4 && b[0]&0xf0 == 0x50 && string(b[1:4]) == "\x2a\x4d\x18"
}

// undecided reports whether more bytes are needed to tell what begins so. No record does.
func undecided(begin []byte) bool {
	for _, known := range readable {
		if len(begin) < len(known.magic) && begins(begin, known.magic) {
			return true
		}
	}
	for _, other := range unreadable {
		if len(begin) < len(other.magic) && begins(begin, other.magic) {
			return true
		}
	}
	return len(begin) < 4 && begin[0]&0xf0 == 0x50 && begins(begin[1:], "\x2a\x4d\x18")
}

func nothing() {}

func openGzip(in io.Reader, _ bool) (io.Reader, func(), error) {
	b := bufio.NewReaderSize(in, streamBytes)
	r, err := gzip.NewReader(b)
	if err != nil {
		return nil, nil, err
	}
	r.Multistream(false)
	return &gzipMembers{b, r}, nothing, nil
}

// gzipMembers reads the members of a gzip file, one after the other. Zeros behind one, which tapes and full blocks leave, are no
// damage, as for gzip itself.
type gzipMembers struct {
	in *bufio.Reader
	z  *gzip.Reader
}

func (g *gzipMembers) Read(p []byte) (int, error) {
	for {
		n, err := g.z.Read(p)
		switch {
		case n > 0 && errors.Is(err, io.EOF):
			return n, nil
		case n > 0 || !errors.Is(err, io.EOF):
			return n, err
		}
		if err := g.member(); err != nil {
			return 0, err
		}
	}
}

// member goes on with the next member; io.EOF: there is none.
func (g *gzipMembers) member() error {
	for {
		b, err := g.in.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			break
		}
	}
	if err := g.in.UnreadByte(); err != nil {
		return err
	}
	if err := g.z.Reset(g.in); err != nil {
		return err
	}
	g.z.Multistream(false)
	return nil
}

// PackedIn returns where in a line of a plain log compressed data begins, as behind a log to which a compressed one was
// appended; -1 where it has none.
func PackedIn(line []byte) int {
	if i := bytes.Index(line, gzipBegin); i >= 0 {
		return i
	}
	for _, known := range readable[1:] {
		if len(line) >= len(known.magic) && begins(line, known.magic) {
			return 0
		}
	}
	return -1
}

// gzipBegin stands at the beginning of each member of gzip; no record has such bytes.
var gzipBegin = []byte("\x1f\x8b\x08")

func openZstd(in io.Reader, ahead bool) (io.Reader, func(), error) {
	workers := 1
	if ahead {
		workers = 2
	}
	r, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(workers), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, nil, err
	}
	return r, r.Close, nil
}

func openBzip2(in io.Reader, _ bool) (io.Reader, func(), error) {
	return bzip2.NewReader(bufio.NewReaderSize(in, streamBytes)), nothing, nil
}
