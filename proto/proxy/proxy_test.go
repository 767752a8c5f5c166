package proxy

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

const sig = "\r\n\r\n\x00\r\nQUIT\n"

// Addresses of version 2, source and destination, then their ports 40000 and 60.
var (
	v4 = "\xc0\x00\x02\x07\xc6\x33\x64\x01\x9c\x40\x00\x3c"
	v6 = "\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x07" + strings.Repeat("\x00", 15) + "\x01" + "\x9c\x40\x00\x3c"
)

var headers = []struct {
	name, text string
	want       string // the source; "local"; or what is wrong
	err        error
	anyErr     bool // an error, whichever
}{
	{name: "version 1", text: "PROXY TCP4 192.0.2.7 198.51.100.1 40000 60\r\n", want: "192.0.2.7:40000"},
	{name: "version 1, IPv6", text: "PROXY TCP6 2001:db8::7 ::1 40000 60\r\n", want: "[2001:db8::7]:40000"},
	{name: "version 1, mapped", text: "PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 40000 60\r\n", want: "192.0.2.7:40000"},
	{name: "version 1, unknown", text: "PROXY UNKNOWN\r\n", want: "local"},
	{name: "version 1, unknown with addresses", text: "PROXY UNKNOWN 192.0.2.7 198.51.100.1 40000 60\r\n", want: "local"},
	{name: "version 1, longest", text: "PROXY UNKNOWN " + strings.Repeat("f", 91) + "\r\n", want: "local"},
	{name: "version 1, too long", text: "PROXY UNKNOWN " + strings.Repeat("f", 92) + "\r\n", err: ErrTooLong},
	{name: "version 1, loopback", text: "PROXY TCP4 127.0.0.1 127.0.0.1 1 60\r\n", want: "127.0.0.1:1"},
	{name: "version 1, zone", text: "PROXY TCP6 fe80::1%lo fe80::2 40000 60\r\n", anyErr: true},
	{name: "version 1, port", text: "PROXY TCP4 192.0.2.7 198.51.100.1 65536 60\r\n", anyErr: true},
	{name: "version 1, no carriage return", text: "PROXY TCP4 192.0.2.7 198.51.100.1 40000 60\n", anyErr: true},
	{name: "version 1, a word too many", text: "PROXY TCP4 192.0.2.7 198.51.100.1 40000 60 7\r\n", anyErr: true},
	{name: "version 1, unspecified", text: "PROXY TCP4 0.0.0.0 198.51.100.1 40000 60\r\n", err: ErrNoAddress},
	{name: "version 1, multicast", text: "PROXY TCP6 ff02::1 ::1 40000 60\r\n", err: ErrNoAddress},
	{name: "version 2", text: sig + "\x21\x11\x00\x0c" + v4, want: "192.0.2.7:40000"},
	{name: "version 2, IPv6", text: sig + "\x21\x21\x00\x24" + v6, want: "[2001:db8::7]:40000"},
	{name: "version 2, TLVs", text: sig + "\x21\x11\x00\x16" + v4 + "\x22\x00\x07auditor", want: "192.0.2.7:40000"},
	{name: "version 2, TLVs of 4 KiB", text: sig + "\x21\x11\x10\x00" + v4 + "\x28\x0f\xf1" + strings.Repeat("c", 0xff1), want: "192.0.2.7:40000"},
	{name: "version 2, length over the bound", text: sig + "\x21\x11\x10\x01" + v4 + strings.Repeat("\x04\x00\x00", 1400), err: ErrTooLong},
	{name: "version 2, greatest length", text: sig + "\x21\x11\xff\xff" + v4, err: ErrTooLong},
	{name: "version 2, local", text: sig + "\x20\x00\x00\x00", want: "local"},
	{name: "version 2, local with addresses", text: sig + "\x20\x11\x00\x0c" + v4, want: "local"},
	{name: "version 2, unspecified family", text: sig + "\x21\x00\x00\x00", anyErr: true},
	{name: "version 2, a file's socket", text: sig + "\x21\x31\x00\xd8/run/client.sock" + strings.Repeat("\x00", 200), err: ErrNoAddress},
	{name: "version 2, datagrams", text: sig + "\x21\x12\x00\x0c" + v4, err: ErrNoAddress},
	{name: "version 2, length too small", text: sig + "\x21\x11\x00\x0b" + v4[:11], anyErr: true},
	{name: "version 3", text: sig + "\x31\x11\x00\x0c" + v4, anyErr: true},
	{name: "nothing", text: "", err: io.EOF},
	{name: "a part of version 1", text: "PROXY TCP4 192.0.2.7", err: io.ErrUnexpectedEOF},
	{name: "a part of version 2", text: sig + "\x21\x11\x00\x0c" + v4[:5], err: io.ErrUnexpectedEOF},
	{name: "a part of its length", text: sig + "\x21\x11\x00", err: io.ErrUnexpectedEOF},
	{name: "a frame", text: "\xfe\x00\x00\xff\x00\x00", err: ErrNone},
	{name: "a line", text: "type=USER msg=audit(1.000:1): \n", err: ErrNone},
	{name: "TLS", text: "\x16\x03\x01\x02\x00\x01", err: ErrNone},
	{name: "nearly version 1", text: "PROXX", err: ErrNone},
	{name: "nearly version 2", text: "\r\n\r\n\r\n", err: ErrNone},
}

const behind = "\xfe\x00\x00\xffbehind"

// Headers are read however they are torn, and nothing behind them.
func TestRead(t *testing.T) {
	for _, h := range headers {
		t.Run(h.name, func(t *testing.T) {
			whole := h.text
			wrong := h.err != nil || h.anyErr
			if !wrong {
				whole += behind
			}
			for torn, tear := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "torn": iotest.OneByteReader, "end with bytes": iotest.DataErrReader} {
				r := strings.NewReader(whole)
				got, err := Read(tear(r))
				if wrong {
					if err == nil || h.err != nil && !errors.Is(err, h.err) {
						t.Errorf("%s: %+v %v, want %v", torn, got, err, h.err)
					}
					continue
				}
				rest, _ := io.ReadAll(r)
				said := got.Source.String()
				if got.Local {
					said = "local"
				}
				if err != nil || said != h.want || torn != "end with bytes" && string(rest) != behind {
					t.Errorf("%s: %s %v, want %s; %q is left", torn, said, err, h.want, rest)
				}
			}
		})
	}
}

// What begins a stream is known as a header at once, or once there is enough of it.
func TestBegins(t *testing.T) {
	for _, h := range headers {
		said := false
		for n := range len(h.text) + 1 {
			yes, may := Begins([]byte(h.text[:n]))
			if said && !yes || yes && may {
				t.Fatalf("%s: of %d bytes %v %v", h.name, n, yes, may)
			}
			said = yes
		}
		if isHeader := !errors.Is(h.err, ErrNone) && h.text != ""; said != isHeader {
			t.Errorf("%s: begins with a header: %v", h.name, said)
		}
	}
}

// FuzzRead reads anything: an address is one that a connection can come from, and it is the
// same however the bytes come.
func FuzzRead(f *testing.F) {
	for _, h := range headers {
		f.Add([]byte(h.text + behind))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		h, err := Read(r)
		used := len(b) - r.Len()
		torn, tornErr := Read(iotest.OneByteReader(bytes.NewReader(b)))
		switch yes, _ := Begins(b); {
		case h != torn || (err == nil) != (tornErr == nil):
			t.Fatalf("%+v %v, torn %+v %v", h, err, torn, tornErr)
		case used > MaxHeader:
			t.Fatalf("%d bytes were read", used)
		case err == nil && (!yes || h.Local == h.Source.IsValid()):
			t.Fatalf("%+v", h)
		case err == nil && !h.Local && (h.Source.Addr().Is4In6() || h.Source.Addr().Zone() != "" || h.Source.Addr().IsUnspecified()):
			t.Fatalf("%+v", h)
		case err != nil && h != (Header{}):
			t.Fatalf("%+v with %v", h, err)
		}
	})
}
