package logscan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"

	"github.com/auditfleet/auditfleet/internal/need"
)

// xzParts are an xz file of one block without a checksum, taken apart.
type xzParts struct {
	header, block, chunks, index, footer []byte // block is its header
}

// xzOf packs a text, and takes the file apart.
func xzOf(t testing.TB, text string) (p xzParts) {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.WriterConfig{NoCheckSum: true}.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := b.Bytes()
	footer := len(file) - 12
	index := footer - 4*(int(binary.LittleEndian.Uint32(file[footer+4:]))+1)
	chunks := 12 + 4*(int(file[12])+1)
	return xzParts{file[:12], file[12:chunks], file[chunks:index], file[index:footer], file[footer:]}
}

// file puts the parts together again.
func (p *xzParts) file() []byte {
	return bytes.Join([][]byte{p.header, p.block, p.chunks, p.index, p.footer}, nil)
}

// wide has the block ask for a dictionary of 4 GiB.
func (p *xzParts) wide() *xzParts {
	p.block = bytes.Clone(p.block)
	p.block[4] = 40
	binary.LittleEndian.PutUint32(p.block[len(p.block)-4:], crc32.ChecksumIEEE(p.block[:len(p.block)-4]))
	return p
}

// reindexed has the index begin with these bytes, which say that there is one record.
func (p *xzParts) reindexed(one ...byte) *xzParts {
	index := append(append([]byte{0}, one...), bytes.TrimRight(p.index[2:len(p.index)-4], "\x00")...)
	for len(index)%4 != 0 {
		index = append(index, 0)
	}
	p.index = binary.LittleEndian.AppendUint32(index, crc32.ChecksumIEEE(index))
	p.footer = bytes.Clone(p.footer)
	binary.LittleEndian.PutUint32(p.footer[4:], uint32(len(p.index)/4-1))
	binary.LittleEndian.PutUint32(p.footer, crc32.ChecksumIEEE(p.footer[4:10]))
	return p
}

// No file gets a larger dictionary by what it says elsewhere: of the length of a chunk, so
// that the next header seems to be part of it, or with a number that is longer than need be.
func TestHiddenDictionary(t *testing.T) {
	text := strings.Repeat(packedLine, 100)
	second := xzOf(t, text)
	wide := second.wide().file()
	plain, long, short := xzOf(t, text), xzOf(t, text), xzOf(t, text)
	long.reindexed(0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0)
	short.chunks = bytes.Clone(short.chunks)
	if short.chunks[0] < 0x80 {
		t.Fatalf("a chunk %x is not compressed", short.chunks[0])
	}
	binary.BigEndian.PutUint16(short.chunks[3:], binary.BigEndian.Uint16(short.chunks[3:])+60000)
	for name, c := range map[string]struct {
		first *xzParts
		want  string
	}{
		"as it is":                       {&plain, "dictionary of 4096 MiB"},
		"a long number":                  {&long, "a number that is too long"},
		"a chunk that ends before it is": {&short, "dictionary of 4096 MiB"},
	} {
		r, damage := UnpackStream(bytes.NewReader(append(c.first.file(), wide...)), "log")
		got, err := io.ReadAll(r)
		err = errors.Join(err, damage())
		if err == nil || !strings.Contains(err.Error(), c.want) || string(got) != text {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// No byte of a file is changed or missing, and the text another without a word.
func TestDamagedXZ(t *testing.T) {
	text := strings.Repeat(packedLine, 50)
	for _, sum := range []byte{xz.CRC32, xz.CRC64, xz.SHA256} {
		var b bytes.Buffer
		for range 2 {
			w, err := xz.WriterConfig{BlockSize: 1000, CheckSum: sum, DictCap: 1 << 16}.NewWriter(&b)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, text); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		read := func(file []byte) (string, error) {
			r, damage := UnpackStream(bytes.NewReader(file), "log")
			got, err := io.ReadAll(r)
			return string(got), errors.Join(err, damage())
		}
		file := b.Bytes()
		if got, err := read(file); got != text+text || err != nil {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		for at := len(xzMagic); at < len(file); at += need.Size(1, 7) {
			for _, flip := range []byte{1, 0x80} {
				bad := bytes.Clone(file)
				bad[at] ^= flip
				if got, err := read(bad); err == nil && got != text+text {
					t.Errorf("byte %d of %d: %d bytes, %v", at, len(file), len(got), err)
				}
			}
			if got, err := read(file[:at]); err == nil && got != text {
				t.Errorf("the first %d of %d bytes: %d bytes, %v", at, len(file), len(got), err)
			}
		}
	}
}
