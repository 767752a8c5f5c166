package logscan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// packedSuffixes are those of compressed logs.
var packedSuffixes = [...]string{"", ".zst", ".gz"}

// rotated lists a log with its older files, the oldest first. Those are numbered
// upwards from 1, as the stock daemon does it, or carry the time at which they
// were put aside, and both may be compressed. Of a file that is there twice, the
// uncompressed one counts.
func rotated(log string) []string {
	numbered, dated := numberedLogs(log), datedLogs(log)
	if len(numbered) > 0 && len(dated) > 0 && modified(numbered[len(numbered)-1]).After(modified(dated[len(dated)-1])) {
		numbered, dated = dated, numbered // only their order matters from here
	}
	return append(slices.Concat(numbered, dated), log)
}

func numberedLogs(log string) (files []string) {
	for n := 1; ; n++ {
		file, ok := eitherOf(log + "." + strconv.Itoa(n))
		if !ok {
			slices.Reverse(files)
			return files
		}
		files = append(files, file)
	}
}

// eitherOf finds a file as it is or compressed.
func eitherOf(name string) (string, bool) {
	for _, suffix := range packedSuffixes {
		if _, err := os.Stat(name + suffix); err == nil {
			return name + suffix, true
		}
	}
	return "", false
}

// datedLayout is how a time stands in a log's name. Such names sort by time.
const datedLayout = "2006-01-02T15-04-05"

func datedLogs(log string) (files []string) {
	entries, err := os.ReadDir(filepath.Dir(log))
	if err != nil {
		return nil // what cannot be listed cannot be opened, which is said then
	}
	base := filepath.Base(log) + "."
	for _, e := range entries {
		stamp, ok := strings.CutPrefix(e.Name(), base)
		for _, suffix := range packedSuffixes[1:] {
			stamp = strings.TrimSuffix(stamp, suffix)
		}
		if _, err := time.Parse(datedLayout, stamp); !ok || err != nil {
			continue
		}
		name := log + "." + stamp
		if file, ok := eitherOf(name); ok && !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	slices.Sort(files)
	return files
}

func modified(file string) time.Time {
	info, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

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
// gzip or zstd. The first bytes of the file decide that, not its name. The caller must
// call damage after reading; it releases the decoder's resources and returns the error
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
	var magic [4]byte
	n, _ := f.ReadAt(magic[:], 0) // reading it will say
	z := &unpacking{name: f.Name(), stop: func() {}}
	switch {
	case bytes.HasPrefix(magic[:n], []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(f)
		if err != nil {
			return nil, err
		}
		z.Reader = r
	case bytes.Equal(magic[:n], []byte{0x28, 0xb5, 0x2f, 0xfd}):
		r, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		z.Reader, z.stop = r, r.Close
	default:
		return f, nil
	}
	return z, nil
}
