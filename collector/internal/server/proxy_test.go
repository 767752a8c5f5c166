package server

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/psktls"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// senders are the addresses and hosts of the events of senders.
func senders(t *testing.T, r *running) (out []string) {
	t.Helper()
	err := r.client().Scan(t.Context(), &query.Query{Types: []uint32{1112}, Origin: true}, func(ev *event.Event) error {
		out = append(out, fmt.Sprintf("%s from %s by %s", ev.Node, ev.From.Addr, ev.From.Transport))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// dialFrom connects from an address of this machine and says first what text is.
func (r *running) dialFrom(addr, text string) net.Conn {
	r.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	c, err := d.Dial("tcp", r.Addrs()[0].String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func header(addr string) string { return "PROXY TCP4 " + addr + " 127.0.0.1 40000 60\r\n" }

// What comes through a proxy is its client's: for the address of records, for the names that
// it may use, and for what the collector writes of it. Who is a proxy changes at a reload.
func TestProxiedSenders(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "trusted")
	if err := os.WriteFile(file, []byte("web1 192.0.2.1\nproxy 127.0.0.0/8\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(shortDir(t))
	cfg.TrustedSenders, cfg.RefuseUntrusted = file, true
	r := start(t, cfg)
	without := cfg
	cfg.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}
	if err := r.Reconfigure(cfg); err != nil {
		t.Fatal(err)
	}
	web1 := r.dialFrom("127.0.0.9", header("192.0.2.1"))
	exchange(t, web1, 1, userRecord("web1", 1), userRecord("web2", 2))
	stranger := r.dialFrom("127.0.0.9", header("192.0.2.3"))
	if _, err := stranger.Read(make([]byte, 1)); err == nil {
		t.Error("an address that is not trusted sends through the proxy")
	}
	// A proxy is believed, also where it says that a client is of this machine.
	exchange(t, r.dialFrom("127.0.0.9", header("127.0.0.5")), 1, userRecord("proxy", 3))
	// Nobody else is.
	liar := r.dialFrom("127.0.0.6", header("192.0.2.1"))
	if _, err := liar.Read(make([]byte, 1)); err == nil {
		t.Error("a stranger's header is taken")
	}
	// And no client of a proxy is.
	twice := r.dialFrom("127.0.0.9", header("127.0.0.7")+header("192.0.2.1"))
	if _, err := twice.Read(make([]byte, 1)); err == nil {
		t.Error("a second header is taken")
	}
	if err := r.Reconfigure(without); err != nil {
		t.Fatal(err)
	}
	exchange(t, web1, 3, userRecord("web1", 4))
	exchange(t, r.dialFrom("127.0.0.9", ""), 1, userRecord("proxy", 5))
	want := []string{"192.0.2.1 from 192.0.2.1 by tcp", "proxy from 127.0.0.5 by tcp", "proxy from 127.0.0.9 by tcp", "web1 from 192.0.2.1 by tcp", "web1 from 192.0.2.1 by tcp"}
	if diff := cmp.Diff(want, senders(t, r)); diff != "" {
		t.Error(diff)
	}
	for _, want := range []string{"type=DAEMON_ACCEPT msg", "addr=192.0.2.1 port=40000 res=success", "op=untrusted addr=192.0.2.3 port=40000 res=no", "addr=127.0.0.6 "} {
		need.Wait(t, want, func() bool {
			return strings.Contains(strings.Join(raws(t, scanner(r.client()), "collector.test"), "\n"), want)
		})
	}
	if log := r.log.String(); strings.Count(log, "it begins with a PROXY header") != 2 || !strings.Contains(log, "proxy_protocol_from") {
		t.Errorf("the log:\n%s", log)
	}
}

// The header stands before the handshake of pre-shared keys; what listens with certificates
// takes none.
func TestHeaderBeforeTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("0a", 32)+"\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	ca := newCA(t)
	cfg := testConfig(shortDir(t))
	cfg.PSK = &psktls.Settings{PSKFile: key, PSKIdentity: "web1"}
	cfg.ListenTLS, cfg.TLS = []string{"127.0.0.1:0"}, ca.files("hub", pki.Send)
	cfg.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}
	r := start(t, cfg)
	config, err := psktls.Settings{PSKFile: key, PSKIdentity: "web1"}.Client()
	if err != nil {
		t.Fatal(err)
	}
	c := psktls.Client(r.dialFrom("127.0.0.9", header("192.0.2.1")), config)
	if err := c.Handshake(t.Context()); err != nil {
		t.Fatal(err)
	}
	exchange(t, c, 1, userRecord("web1", 1))
	if diff := cmp.Diff([]string{"web1 from 192.0.2.1 by psk"}, senders(t, r)); diff != "" {
		t.Error(diff)
	}
	raw, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.9")}}).Dial("tcp", r.secured.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := io.WriteString(raw, header("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	need.Wait(t, "refused as no TLS", func() bool { return strings.Contains(r.log.String(), "reason=not-tls") })
}
