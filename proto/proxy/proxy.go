// Package proxy reads the header of the PROXY protocol, versions 1 and 2, by which a proxy
// such as stunnel or HAProxy says whose connection it passes on. Whether a header is to be
// believed is for the caller to decide. The collector's listener and the sessions of
// ingest/remote may import it; it imports nothing of ours.
//
// FORMAT.md beside this file says what of the protocol is taken.
package proxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

const (
	// MaxHeader is the longest header that is taken: addresses, and what a proxy says beside
	// them (TLVs) up to 4 KiB, a client's certificate for one.
	MaxHeader = fixedV2 + maxRest
	// fixedV2 is the part of version 2 that ends with the length of the rest.
	fixedV2 = 16
	maxRest = 4 << 10
	// maxV1 is the longest line of version 1, its end included.
	maxV1 = 107
	// least is how many bytes every header has.
	least = 12
)

// Errors of Read beside what the reader returns.
var (
	// ErrNone is returned where the first bytes are not those of a header.
	ErrNone = errors.New("it does not begin with a PROXY header")
	// ErrTooLong is returned for a header that is longer than MaxHeader, or a line without end.
	ErrTooLong = errors.New("its PROXY header is too long")
	// ErrNoAddress is returned for a header whose source is no address of a host: of a socket
	// in the file system, of datagrams, or unspecified.
	ErrNoAddress = errors.New("its PROXY header names no address that a TCP connection can come from")
)

// Header is what a header says.
type Header struct {
	// Source is the client's address, unmapped; invalid where Local is true.
	Source netip.AddrPort
	// Local says that the proxy speaks for itself, or does not know the client (LOCAL,
	// UNKNOWN): the connection is the proxy's own.
	Local bool
}

// Begins says whether a stream that starts with b starts with a header, in which case more
// bytes do not change that, or may start with one once it has more bytes.
func Begins(b []byte) (yes, may bool) {
	for _, mark := range [...]string{"PROXY ", string(proxyproto.SIGV2)} {
		n := min(len(b), len(mark))
		if string(b[:n]) == mark[:n] {
			return n == len(mark), n < len(mark)
		}
	}
	return false, false
}

// Read reads a header, and no byte behind it. It allocates no more than some hundred bytes
// before they are there, and reads until the header is whole, wrong, or r fails.
func Read(r io.Reader) (Header, error) {
	b, err := readMark(r)
	if err != nil {
		return Header{}, err
	}
	if b[0] == 'P' {
		b, err = readLine(r, b)
	} else {
		b, err = readBinary(r, b)
	}
	if err != nil {
		return Header{}, err
	}
	return parse(b)
}

// readMark reads the first bytes, by which versions differ, and gives up at the first that
// is not of a header.
func readMark(r io.Reader) ([]byte, error) {
	b := make([]byte, 0, 128)
	for len(b) < least {
		n, err := r.Read(b[len(b):least])
		b = b[:len(b)+n]
		if yes, may := Begins(b); !yes && !may {
			return nil, ErrNone
		}
		if err != nil && len(b) < least {
			return nil, cut(len(b), err)
		}
	}
	return b, nil
}

// cut is the error of a stream that ended within its header.
func cut(n int, err error) error {
	switch {
	case errors.Is(err, io.EOF) && n == 0:
		return fmt.Errorf("it was closed before its PROXY header: %w", io.EOF)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("it was closed after %d bytes of its PROXY header: %w", n, io.ErrUnexpectedEOF)
	}
	return err
}

// readLine reads the rest of version 1 up to the line's end. Nobody knows before how long it
// is, and what comes behind it is not for us: so it reads byte by byte.
func readLine(r io.Reader, b []byte) ([]byte, error) {
	for b[len(b)-1] != '\n' {
		if len(b) == maxV1 {
			return nil, fmt.Errorf("%w: no end in %d bytes", ErrTooLong, maxV1)
		}
		n, err := r.Read(b[len(b) : len(b)+1])
		b = b[:len(b)+n]
		if err != nil && n == 0 {
			return nil, cut(len(b), err)
		}
	}
	return b, nil
}

// readBinary reads the rest of version 2.
func readBinary(r io.Reader, b []byte) ([]byte, error) {
	n, err := io.ReadFull(r, b[least:fixedV2])
	b = b[:least+n]
	if err != nil {
		return nil, cut(len(b), eof(err))
	}
	rest := int64(binary.BigEndian.Uint16(b[fixedV2-2:]))
	if rest > maxRest {
		return nil, fmt.Errorf("%w: %d bytes, of %d that may be", ErrTooLong, fixedV2+rest, MaxHeader)
	}
	// It grows as bytes come.
	whole := bytes.NewBuffer(b)
	if got, err := whole.ReadFrom(io.LimitReader(r, rest)); err != nil || got < rest {
		if err == nil {
			err = io.EOF
		}
		return nil, cut(whole.Len(), err)
	}
	return whole.Bytes(), nil
}

func eof(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	return err
}

// parse reads a header that is whole.
func parse(b []byte) (Header, error) {
	r := bufio.NewReaderSize(bytes.NewReader(b), MaxHeader)
	h, err := proxyproto.Read(r)
	if err != nil {
		return Header{}, fmt.Errorf("its PROXY header can't be read: %w", err)
	}
	if h.Command.IsLocal() {
		return Header{Local: true}, nil
	}
	tcp, ok := h.SourceAddr.(*net.TCPAddr)
	if !ok {
		return Header{}, ErrNoAddress
	}
	from := tcp.AddrPort()
	addr := from.Addr().Unmap()
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return Header{}, fmt.Errorf("%w: %s", ErrNoAddress, addr)
	}
	return Header{Source: netip.AddrPortFrom(addr, from.Port())}, nil
}
