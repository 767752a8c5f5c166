package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
)

// readmeStunnel returns what docs/deploy.md has pasted for stunnel: its file on the log host and on
// a host, and the flags of the collector.
func readmeStunnel(t *testing.T) (server, client string, flags []string) {
	t.Helper()
	text, err := os.ReadFile(need.Source(t, "docs/deploy.md"))
	if err != nil {
		t.Fatal(err)
	}
	files := regexp.MustCompile("(?s)```ini\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	line := regexp.MustCompile(`(?m)^collector serve (.*--proxy-protocol-from.*)$`).FindStringSubmatch(string(text))
	if len(files) != 2 || len(line) != 2 {
		t.Fatalf("docs/deploy.md has %d files of stunnel, want 2, and this command: %q", len(files), line)
	}
	return files[0][1], files[1][1], strings.Fields(line[1])
}

// tunnels are stunnels as docs/deploy.md has them, with the test's paths and ports.
type tunnels struct {
	t    *testing.T
	bin  string
	dir  string
	text string // of a client's file, without its port and secrets
}

// run starts stunnel with a file.
func (s *tunnels) run(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name+".conf")
	if err := os.WriteFile(path, []byte("foreground = yes\npid =\n"+text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	p, err := harness.Start(harness.Spec{Name: "stunnel " + name, Args: []string{s.bin, path}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		p.Kill()
		if s.t.Failed() {
			s.t.Logf("output of stunnel %s:\n%s", name, p.Output())
		}
	})
	if !harness.Poll(time.Minute, func() bool { return p.Exited() || strings.Contains(p.Output(), "Configuration successful") }) || p.Exited() {
		s.t.Fatalf("stunnel does not take the file of docs/deploy.md:\n%s", p.Output())
	}
}

// client starts the stunnel of a host that has an address of its own, with the key of a line
// of secrets, and returns the port of it.
func (s *tunnels) client(addr, secrets string) int {
	s.t.Helper()
	port := freePort(s.t)
	text := replaced(s.t, s.text, "127.0.0.1:60\n", fmt.Sprintf("127.0.0.1:%d\n", port))
	text = replaced(s.t, text, "/etc/stunnel/audit.psk", s.secrets(addr, secrets))
	s.run("client-"+addr, text+"local = "+addr+"\n") // two hosts of one machine
	return port
}

func (s *tunnels) secrets(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name+".psk")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := need.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func replaced(t *testing.T, text, old, with string) string {
	t.Helper()
	if strings.Count(text, old) != 1 {
		t.Fatalf("%q is not there once:\n%s", old, text)
	}
	return strings.Replace(text, old, with, 1)
}

// A stock audisp-remote and a forwarder send through stunnels with pre-shared keys, all as
// docs/deploy.md has it pasted: records are stored with the address of the host that they come
// from, under its limits, and nobody gets in beside the proxy.
func TestStunnelInFront(t *testing.T) {
	t.Parallel()
	need.Root(t)
	need.Stock(t, "audisp-remote")
	bin := need.Tool(t, "stunnel4")
	server, client, flags := readmeStunnel(t)
	dir := t.TempDir()
	const keyOf1, keyOf2 = "web1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n", "db1:ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100\n"
	s := &tunnels{t: t, bin: bin, dir: dir, text: client}

	o := harness.CollectorOptions{Port: freePort(t)}
	for i, f := range flags {
		if f == "--listen" && flags[i+1] == "127.0.0.1:60" { // it listens there anyway, on its own port
			o.Args = append(slices.Clone(flags[:i]), flags[i+2:]...)
		}
	}
	if len(o.Args) != 2 {
		t.Fatalf("docs/deploy.md has the collector started with %q", flags)
	}
	c := startCollector(t, o)
	front := freePort(t)
	text := replaced(t, server, "accept = 6514\n", fmt.Sprintf("accept = 127.0.0.1:%d\n", front))
	text = replaced(t, text, "127.0.0.1:60\n", fmt.Sprintf("127.0.0.1:%d\n", o.Port))
	s.run("server", replaced(t, text, "/etc/stunnel/audit.psk", s.secrets("server", keyOf1+keyOf2)))
	s.text = replaced(t, client, "collector.example.com:6514", fmt.Sprintf("127.0.0.1:%d", front))

	fromWeb1 := realLog(t, harness.RecordedRaw(), harness.Make{Records: 300, Nodes: []string{"web1"}})
	fromDB1 := realLog(t, harness.RecordedEnriched(), harness.Make{Records: 300, Nodes: []string{"db1"}})
	in, w := io.Pipe() // which stays open, and so does the sender's connection
	stock, err := harness.StartAudispRemote(filepath.Join(dir, "stock"), s.client("127.0.0.7", keyOf1), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { w.Close(); stock.Kill() }()
	go func() { _, _ = io.Copy(w, feed(fromWeb1)) }()
	sameRecords(t, fromWeb1, foundAll(t, c, len(fromWeb1)))
	forwarder, err := harness.StartForwarder(binaries(t), filepath.Join(dir, "ours"), fmt.Sprintf("127.0.0.1:%d", s.client("127.0.0.8", keyOf2)), "stdin", feed(fromDB1))
	if err != nil {
		t.Fatal(err)
	}
	if err := forwarder.Wait(time.Minute); err != nil {
		t.Fatal(err)
	}
	foundAll(t, c, len(fromWeb1)+len(fromDB1))
	sameRecords(t, fromDB1, found(t, c, "-n", "db1"))
	for host, addr := range map[string]string{"web1": "127.0.0.7", "db1": "127.0.0.8"} {
		if n := len(found(t, c, "-n", host)); len(found(t, c, "-n", host, "--from", addr)) != n {
			t.Errorf("not all records of %s are from %s", host, addr)
		}
	}
	addresses := map[string][]string{}
	r, err := c.Command(time.Minute, "hosts", "--format", "json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		Host      string
		Addresses []string
	}
	if err := json.Unmarshal(r.Stdout, &rows); err != nil {
		t.Fatalf("%v\n%s", err, r.Stdout)
	}
	for _, row := range rows {
		addresses[row.Host] = row.Addresses
	}
	if a := addresses["web1"]; len(a) != 1 || a[0] != "127.0.0.7" {
		t.Errorf("web1's addresses: %q", a)
	}
	own := foundRaw(t, c, "-m", "DAEMON_ACCEPT")
	if !strings.Contains(own, "addr=127.0.0.7 ") || strings.Contains(own, "addr=127.0.0.1 ") {
		t.Errorf("accepted connections are not those of hosts:\n%s", own)
	}

	// A second sender of a host is one too many; nobody with a wrong key gets through; who
	// connects beside the proxy is refused, with a header of his own, too.
	second := dialTo(t, s.client("127.0.0.7", keyOf1), "")
	ended(t, second)
	ended(t, dialTo(t, s.client("127.0.0.6", "db1:"+strings.Repeat("00", 32)+"\n"), ""))
	ended(t, dialTo(t, o.Port, "node=web1 type=USER msg=audit(1.000:1): x\n"))
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.5")}}
	stranger, err := d.Dial("tcp", c.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := io.WriteString(stranger, "PROXY TCP4 127.0.0.7 127.0.0.1 1 60\r\n"); err != nil {
		t.Fatal(err)
	}
	ended(t, stranger)
	for series, want := range map[string]float64{`refused_total{reason="dup"}`: 1, `refused_total{reason="proxy"}`: 1, `malformed_total{cause="proxy"}`: 1} {
		need.Wait(t, series, func() bool { return metric(t, c, "auditfleet_collector_"+series) == want })
	}
	for _, want := range []string{"so it must begin with a PROXY header", "proxy_protocol_from (--proxy-protocol-from) only"} {
		if !strings.Contains(c.Output(), want) {
			t.Errorf("the log does not say %q:\n%s", want, c.Output())
		}
	}
}

// dialTo connects to a port of this machine and says something.
func dialTo(t *testing.T, port int, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	return conn
}

// ended waits until the other end has closed a connection.
func ended(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	n, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	if n != 0 || err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("a connection that was to be refused is open: %d %v", n, err)
	}
}
