package logscan

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxWindow is the largest window that a zstd frame may ask for, in bytes. zstd -19 asks
// for 8 MiB, --long=27 for 128 MiB.
const maxWindow = 128 << 20

// unpacking reads a compressed log. It ends at the first damage; what follows is missing.
type unpacking struct {
	io.Reader
	stop func()
	name string
	err  error
}

// Name returns the name of the file.
func (z *unpacking) Name() string { return z.name }

func (z *unpacking) Read(p []byte) (int, error) {
	n, err := z.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		z.err = fmt.Errorf("%s: damaged, what follows is left out: %w", z.name, err)
		err = io.EOF
	}
	return n, err
}

// Unpack returns a reader of the content of f, which it unpacks if it is compressed with
// gzip, zstd, xz or bzip2. The first bytes of the file decide that, not its name; other
// compression is refused by its name. The caller must call damage after reading; it releases the decoder's resources and returns the error
// that made the rest of a compressed file unreadable, or nil.
func Unpack(f *os.File) (r io.Reader, packed bool, damage func() error, err error) {
	r, err = unpacked(f)
	z, packed := r.(*unpacking)
	if err != nil || !packed {
		return r, false, func() error { return nil }, err
	}
	return r, true, func() error { z.stop(); return z.err }, nil
}

// unpacked is the file, or what is compressed in it: its first bytes say so,
// whatever it is called.
func unpacked(f *os.File) (io.Reader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return f, nil
	}
	var magic [64]byte
	n, _ := f.ReadAt(magic[:], 0) // reading it will say
	begin := magic[:n]
	z := &unpacking{name: f.Name(), stop: func() {}}
	switch {
	case bytes.HasPrefix(begin, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(f)
		if err != nil {
			return nil, err
		}
		z.Reader = r
	case bytes.HasPrefix(begin, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		r, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		z.Reader, z.stop = r, r.Close
	case bytes.HasPrefix(begin, []byte(xzMagic)):
		if dict, ok := xzDictionary(begin); ok && dict > maxWindow {
			return nil, fmt.Errorf("xz with a dictionary of %d MiB, %d is the most: unpack it first", dict>>20, maxWindow>>20)
		}
		r, err := xz.NewReader(bufio.NewReaderSize(f, streamBytes))
		if err != nil {
			return nil, err
		}
		z.Reader = r
	case len(begin) > 9 && bytes.HasPrefix(begin, []byte("BZh")) && string(begin[4:10]) == "1AY&SY":
		z.Reader = bzip2.NewReader(bufio.NewReaderSize(f, streamBytes))
	default:
		for _, other := range unreadable {
			if bytes.HasPrefix(begin, []byte(other.magic)) {
				return nil, fmt.Errorf("compressed with %s, which is not read: unpack it first, as %s does", other.name, other.unpack)
			}
		}
		return f, nil
	}
	return z, nil
}

// unreadable are compressions that are known by sight only.
var unreadable = [...]struct{ magic, name, unpack string }{
	{"\x04\x22\x4d\x18", "lz4", "unlz4"}, {"LZIP", "lzip", "lzip -d"}, {"PK\x03\x04", "zip", "unzip"}, {"7z\xbc\xaf\x27\x1c", "7-Zip", "7z x"},
	{"\x5d\x00\x00", "lzma", "unlzma"}, {"\x1f\x9d", "compress", "uncompress"}, {"\x89LZO", "lzop", "lzop -d"},
}

const xzMagic = "\xfd7zXZ\x00"

// xzDictionary returns the size of the dictionary of an xz file's first block; false where
// its beginning does not say.
func xzDictionary(begin []byte) (size int64, ok bool) {
	at := 12 + 2 // behind the stream's header, and the size and the flags of the block's
	if len(begin) < at {
		return 0, false
	}
	for flags := begin[at-1] & 0xc0; flags != 0; flags <<= 1 { // sizes, in bytes of seven bits
		if flags&0x80 == 0 {
			continue
		}
		for at < len(begin) && begin[at]&0x80 != 0 {
			at++
		}
		at++
	}
	// LZMA2, one byte of properties.
	if at+2 >= len(begin) || begin[at] != 0x21 || begin[at+1] != 1 || begin[at+2] > 40 {
		return 0, false
	}
	bits := begin[at+2]
	return int64(2|bits&1) << (bits/2 + 11), true
}
