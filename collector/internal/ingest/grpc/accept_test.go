package grpc

import (
	"crypto/tls"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// A proxy's connection is its client's, by the header in front of TLS; without one it is refused. Who connects directly needs none, and one
// connection that says nothing holds up no other.
func TestProxiedConnections(t *testing.T) {
	t.Parallel()
	proxy := netip.MustParseAddr("127.0.0.2")
	f := setup(t, Limits{MaxPerAddr: 2, OpenTimeout: time.Hour, HandshakeTimeout: time.Hour, Proxy: func(a netip.Addr) bool { return a == proxy }})
	config := f.config("web1")
	dial := func(from, header string) *tls.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		raw, err := d.Dial("tcp", f.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { raw.Close() })
		if _, err := raw.Write([]byte(header)); err != nil {
			t.Fatal(err)
		}
		return tls.Client(raw, config)
	}
	peers := func() map[netip.Addr]int {
		n := map[netip.Addr]int{}
		f.Connected(func(p netip.AddrPort) { n[p.Addr()]++ })
		return n
	}
	const seventh = "PROXY TCP4 192.0.2.7 198.51.100.1 40000 61\r\n"
	dial("127.0.0.2", "PROXY TCP4 192.") // which goes on waiting
	for range 2 {
		if err := dial("127.0.0.2", seventh).Handshake(); err != nil {
			t.Fatal(err)
		}
	}
	if err := dial("127.0.0.3", "").Handshake(); err != nil {
		t.Fatal(err)
	}
	want := map[netip.Addr]int{netip.MustParseAddr("192.0.2.7"): 2, netip.MustParseAddr("127.0.0.3"): 1}
	need.Wait(t, "they are their clients'", func() bool {
		got := peers()
		return len(got) == len(want) && got[netip.MustParseAddr("192.0.2.7")] == 2
	})
	if err := dial("127.0.0.2", seventh).Handshake(); err == nil {
		t.Error("a third one of an address is one too many, and was let in")
	}
	if err := dial("127.0.0.2", "").Handshake(); err == nil {
		t.Error("a proxy's connection without a header was let in")
	}
	if err := dial("127.0.0.3", seventh).Handshake(); err == nil {
		t.Error("a header of somebody else was taken")
	}
	for _, reason := range []string{"dup", "proxy"} { // the one that waits may be late by now, too
		need.Wait(t, reason, func() bool { return f.value(`grpc_refused_total{reason="`+reason+`"}`) >= 1 })
	}
}
