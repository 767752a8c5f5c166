package logscan

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
)

// unpacking reads a compressed log. It ends at the first damage; what follows is missing.
type unpacking struct {
	r     io.Reader
	begun bool
	head  []byte // read to see what it is, not returned yet
	next  error  // that came with the end of head
	in    *input
	stop  func()
	name  string
	err   error
}

// input is what a decoder reads. It keeps the error that reading met: it is not the
// content's.
type input struct {
	io.Reader
	err error
}

func (in *input) Read(p []byte) (int, error) {
	n, err := in.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		in.err = err
	}
	return n, err
}

// packed is a log that may be compressed.
type packed interface {
	damage() error // what made the rest of it unreadable, after reading
	close()        // releases the decoder's resources; it may be called again
}

func (z *unpacking) damage() error { return z.err }
func (z *unpacking) close()        { z.stop() }

// Name returns the name of the file.
func (z *unpacking) Name() string { return z.name }

func (z *unpacking) Read(p []byte) (int, error) {
	if !z.begun {
		z.look()
	}
	switch {
	case z.err != nil:
		return 0, io.EOF
	case len(z.head) > 0:
		n := copy(p, z.head)
		z.head = z.head[n:]
		return n, nil
	case z.next != nil:
		return 0, z.judge(z.next)
	}
	n, err := z.r.Read(p)
	if err != nil {
		z.next = err
		err = z.judge(err)
	}
	return n, err
}

// look reads the first bytes of the content.
func (z *unpacking) look() {
	z.begun = true
	head := make([]byte, sniffed)
	n := 0
	for n < len(head) && z.next == nil {
		var m int
		m, z.next = z.r.Read(head[n:])
		n += m
	}
	z.head = head[:n]
	z.err = z.refused(z.head)
}

// judge returns how reading goes on behind an error: as at the end where the file is damaged.
func (z *unpacking) judge(err error) error {
	if errors.Is(err, io.EOF) || z.in.err != nil {
		return cmp.Or(z.in.err, err)
	}
	z.err = fmt.Errorf("%s: damaged, what follows is left out: %w", z.name, err)
	return io.EOF
}

// refused says why the content of a compressed file is no log.
func (z *unpacking) refused(begin []byte) error {
	decoder, err := decoderOf(begin)
	switch {
	case err != nil:
		return fmt.Errorf("%s: its content is %w", z.name, err)
	case decoder != nil:
		return fmt.Errorf("%s: compressed more than once, which is not read: unpack it first", z.name)
	}
	return nil
}

// Unpack returns a reader of the content of f, which it unpacks if it is compressed with
// gzip, zstd, xz or bzip2. The first bytes of the file decide that, not its name; other
// compression, and archives, are refused by their name. The caller must call damage after reading; it releases the decoder's resources and returns the error
// that made the rest of a compressed file unreadable, or nil.
func Unpack(f *os.File) (r io.Reader, isPacked bool, damage func() error, err error) {
	r, err = unpacked(f)
	z, isPacked := r.(*unpacking)
	if err != nil || !isPacked {
		return r, false, func() error { return nil }, err
	}
	return r, true, func() error { z.close(); return z.damage() }, nil
}

// UnpackStream is Unpack for what can be read once, such as a pipe. Its first bytes are
// looked at by the first Read, which so returns an error for what Unpack refuses. An error
// of in is returned as it is, and in is only read during a Read.
func UnpackStream(in io.Reader, name string) (r io.Reader, damage func() error) {
	s := &stream{in: in, name: name}
	return s, func() error { s.close(); return s.damage() }
}

// stream is a log that can be read once, and may be compressed.
type stream struct {
	in    io.Reader
	name  string
	known bool
	head  []byte     // read to see what it is, not returned yet
	z     *unpacking // nil: it is not compressed
	err   error
}

// Name returns the name that the stream was given.
func (s *stream) Name() string { return s.name }

func (s *stream) damage() error {
	if s.z == nil {
		return nil
	}
	return s.z.damage()
}

func (s *stream) close() {
	if s.z != nil {
		s.z.close()
	}
}

func (s *stream) Read(p []byte) (int, error) {
	if !s.known {
		if err := s.look(); err != nil {
			return 0, err
		}
	}
	switch {
	case s.z != nil:
		return s.z.Read(p)
	case len(s.head) > 0:
		n := copy(p, s.head)
		if s.head = s.head[n:]; len(s.head) == 0 {
			s.head = nil
		}
		return n, nil
	case s.err != nil:
		return 0, s.err
	}
	return s.in.Read(p)
}

// look reads until the first bytes say what the stream is. Most logs say so by their first.
func (s *stream) look() error {
	if s.head == nil {
		s.head = make([]byte, 0, streamBytes)
	}
	for s.err == nil && (len(s.head) == 0 || undecided(s.head)) {
		var n int
		n, s.err = s.in.Read(s.head[len(s.head):cap(s.head)])
		s.head = s.head[:len(s.head)+n]
	}
	decoder, err := decoderOf(s.head)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	s.known = true
	if decoder == nil {
		return nil
	}
	s.z, err = newUnpacking(io.MultiReader(bytes.NewReader(s.head), &after{s}), s.name, decoder, false)
	if s.head = nil; err != nil {
		s.err = fmt.Errorf("%s: %w", s.name, err)
		return s.err
	}
	return nil
}

// after is the stream behind what look has read.
type after struct{ s *stream }

func (a *after) Read(p []byte) (int, error) {
	if a.s.err != nil {
		return 0, a.s.err
	}
	return a.s.in.Read(p)
}

// unpacked is the file, or what is compressed in it: its first bytes say so,
// whatever it is called.
func unpacked(f *os.File) (io.Reader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return &stream{in: f, name: f.Name()}, nil
	}
	var begin [sniffed]byte
	n, _ := f.ReadAt(begin[:], 0) // reading it will say
	decoder, err := decoderOf(begin[:n])
	if err != nil {
		return nil, err
	}
	if decoder == nil {
		return f, nil
	}
	z, err := newUnpacking(f, f.Name(), decoder, true)
	if err != nil {
		return nil, err // not z, which would be an io.Reader that is not nil
	}
	return z, nil
}

func newUnpacking(in io.Reader, name string, decoder decoder, ahead bool) (*unpacking, error) {
	z := &unpacking{in: &input{Reader: in}, name: name}
	r, stop, err := decoder(z.in, ahead)
	if err != nil {
		return nil, err
	}
	z.r, z.stop = r, stop
	return z, nil
}
