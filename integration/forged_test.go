package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// peerAt is a sender with an address of its own on loopback, which waits for each
// acknowledgement.
type peerAt struct {
	t    *testing.T
	conn net.Conn
	seq  uint32
}

func dialFrom(t *testing.T, c *harness.Collector, addr string) *peerAt {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}, Timeout: time.Minute}
	conn, err := d.Dial("tcp", c.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &peerAt{t: t, conn: conn}
}

func (p *peerAt) send(records ...string) {
	p.t.Helper()
	_ = p.conn.SetDeadline(time.Now().Add(time.Minute))
	for _, r := range records {
		p.seq++
		if _, err := p.conn.Write(remote.Append(nil, remote.Message, p.seq, []byte(r))); err != nil {
			p.t.Fatal(err)
		}
		if _, err := io.ReadFull(p.conn, make([]byte, remote.HeaderSize)); err != nil {
			p.t.Fatalf("no acknowledgement of %.80q: %v", r, err)
		}
	}
}

// An address that writes into another host's log: it adds a PATH to web1's open
// event, ends it, and sends a record of the year 5138; and invents names. web1's
// events are as web1 sent them, its clock is its own, and who sent what is told.
func TestForgingPeer(t *testing.T) {
	t.Parallel()
	c := startCollector(t, harness.CollectorOptions{Args: []string{"--max-new-names", "50"}})
	now := time.Now().Unix()
	rec := func(serial int, typ, rest string) string {
		return fmt.Sprintf("node=web1 type=%s msg=audit(%d.000:%d): %s", typ, now, serial, rest)
	}
	good, evil := dialFrom(t, c, "127.0.0.1"), dialFrom(t, c, "127.0.0.2")
	good.send(rec(1, "SYSCALL", `arch=c000003e syscall=257 success=yes exit=3 items=1 pid=7 comm="cat" exe="/usr/bin/cat"`))
	evil.send(
		"node=web1 type=SYSCALL msg=audit(99999999999.000:9): arch=c000003e syscall=59",
		rec(1, "PATH", `item=0 name="/etc/shadow" nametype=NORMAL`), rec(1, "PROCTITLE", `proctitle="evil"`))
	good.send(rec(1, "PATH", `item=0 name="/etc/motd" nametype=NORMAL`), rec(1, "PROCTITLE", `proctitle="cat"`))
	for i := range 200 {
		evil.send(fmt.Sprintf("node=invented-%d type=USER_LOGIN msg=audit(%d.000:%d): pid=1 msg='op=login'", i, now, i))
	}
	nameless := dialFrom(t, c, "127.0.0.3")
	nameless.send(fmt.Sprintf("type=USER_LOGIN msg=audit(%d.000:77): pid=1 msg='op=login'", now))

	type jsonEvent struct {
		Serial           uint64
		Node, Host, From string
		Received         time.Time
		Future           bool
		Records          []struct{ Type string }
	}
	events := func(args ...string) (list []jsonEvent) {
		t.Helper()
		r, err := c.Search(time.Minute, append([]string{"--format", "json"}, args...)...)
		if err != nil || r.Code > 1 {
			t.Fatalf("%v %s", err, r.Stderr)
		}
		for d := json.NewDecoder(strings.NewReader(string(r.Stdout))); d.More(); {
			var ev jsonEvent
			if err := d.Decode(&ev); err != nil {
				t.Fatal(err)
			}
			list = append(list, ev)
		}
		return list
	}
	check := func(why string) {
		t.Helper()
		var list []jsonEvent
		need.Wait(t, "web1's events", func() bool {
			list = events("-n", "web1")
			return len(list) >= 3
		})
		for _, ev := range list {
			types := ""
			for _, r := range ev.Records {
				types += r.Type + " "
			}
			want := map[string]string{"127.0.0.1": "SYSCALL PATH PROCTITLE ", "127.0.0.2": "PATH PROCTITLE "}[ev.From]
			if ev.Future {
				want = "SYSCALL "
			}
			if types != want || ev.Host != "web1" || time.Since(ev.Received) > time.Hour || ev.Future != (ev.Serial == 9) {
				t.Errorf("%s: %+v", why, ev)
			}
		}
		if n := len(events("--from", "127.0.0.1")); n != 1 {
			t.Errorf("%s: %d events are from 127.0.0.1, want 1", why, n)
		}
		if n := len(events("--from", "127.0.0.0/30", "-n", "web1")); n != 3 {
			t.Errorf("%s: %d events of web1 are from 127.0.0.0/30, want 3", why, n)
		}
		if n := len(events("-n", "invented-199")); n != 1 {
			t.Errorf("%s: %d events of a name beyond the bound, want 1", why, n)
		}
		if n := len(events("-n", "127.0.0.3")); n != 1 {
			t.Errorf("%s: %d events of the sender without a name, want 1", why, n)
		}
	}
	check("running")
	noticed := foundRaw(t, c, "-m", "DAEMON_ERR")
	for _, want := range []string{`op=new-address host="web1" addr=127.0.0.2 old-addr=127.0.0.1`, `op=two-addresses host="web1" addr=127.0.0.1 old-addr=127.0.0.2`, `op=too-many-names host="invented-50" addr=127.0.0.2`} {
		if strings.Count(noticed, want) != 1 {
			t.Errorf("the collector's own records say not once %q:\n%s", want, noticed)
		}
	}
	hosts, err := c.Command(time.Minute, "hosts", "--format", "csv")
	if err != nil || hosts.Code != 0 {
		t.Fatalf("%v %s", err, hosts.Stderr)
	}
	if n := strings.Count(string(hosts.Stdout), "invented-"); n != 50 || strings.Contains(string(hosts.Stdout), "5138") || !strings.Contains(string(hosts.Stdout), "127.0.0.1 127.0.0.2") {
		t.Errorf("%d invented hosts, want 50:\n%s", n, hosts.Stdout)
	}
	if r, err := c.Command(time.Minute, "hosts", "--reattribute", "127.0.0.3=web9", "--forget", "127.0.0.2"); err != nil || r.Code != 0 || strings.Count(string(r.Stdout), "forgotten: invented-") != 50 {
		t.Errorf("%v %d %s%s", err, r.Code, r.Stdout, r.Stderr)
	}
	for _, p := range []*peerAt{good, evil, nameless} {
		p.conn.Close()
	}
	if err := c.Terminate(time.Minute); err != nil {
		t.Fatal(err)
	}
	check("stopped")
	if n := len(events("-n", "web9")); n != 1 {
		t.Errorf("%d events were reattributed, want 1", n)
	}
	if r, err := c.Command(time.Minute, "hosts", "--forget", "web1"); err != nil || string(r.Stdout) != "forgotten: web1\n" {
		t.Errorf("without a collector: %v %s%s", err, r.Stdout, r.Stderr)
	}
	if n := len(events("-n", "web1")); n != 3 {
		t.Errorf("forgotten, %d events of web1 are found, want 3", n)
	}
}

// foundRaw is what a search finds, as it is.
func foundRaw(t *testing.T, c *harness.Collector, args ...string) string {
	t.Helper()
	r, err := c.Search(time.Minute, append([]string{"--format", "raw"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return string(r.Stdout)
}
