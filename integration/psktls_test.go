package integration

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/psktls"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// newestTLS is a daemon of audit 4.2.2 that was built with TLS.
func newestTLS(t *testing.T, tool string) string {
	t.Helper()
	need.Root(t)
	program := need.Newest(t, tool)
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("libssl.so")) {
		t.Skip(program + " was built without TLS: ./configure --enable-tls")
	}
	return program
}

// privateDir is a folder below none that others may write to: below such a one 4.2.2 writes
// no log.
func privateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/lib", "auditfleet-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// confFile writes a file of key = value.
func confFile(t *testing.T, dir, name string, values ...map[string]string) string {
	t.Helper()
	all := map[string]string{}
	for _, set := range values {
		maps.Copy(all, set)
	}
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "%s = %s\n", key, all[key])
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text.String()), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

func pskKey(t *testing.T, dir, name string, fill byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(hex.EncodeToString(bytes.Repeat([]byte{fill}, 32))+"\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	return path
}

// pskCases are what both directions are tried with: the settings of the stock end and of
// ours.
var pskCases = []struct {
	name  string
	stock map[string]string
	ours  psktls.Settings
	want  psktls.ConnectionState
}{
	{"default", nil, psktls.Settings{}, psktls.ConnectionState{Suite: psktls.AES128GCM}},
	{"a key of SHA-384", map[string]string{"tls_cipher_suites": "TLS_AES_256_GCM_SHA384"},
		psktls.Settings{CipherSuites: "TLS_AES_256_GCM_SHA384"}, psktls.ConnectionState{Suite: psktls.AES256GCM}},
	{"both hashes, which two stock ends can't", map[string]string{"tls_cipher_suites": "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"},
		psktls.Settings{}, psktls.ConnectionState{Suite: psktls.AES128GCM}},
	{"ChaCha", map[string]string{"tls_cipher_suites": "TLS_CHACHA20_POLY1305_SHA256"},
		psktls.Settings{}, psktls.ConnectionState{Suite: psktls.ChaCha20Poly1305}},
}

// TestNewestAuditdTakesPSK sends records to auditd 4.2.2 over TLS with a pre-shared key.
func TestNewestAuditdTakesPSK(t *testing.T) {
	program := newestTLS(t, "auditd")
	cases := append(slices.Clone(pskCases), struct {
		name  string
		stock map[string]string
		ours  psktls.Settings
		want  psktls.ConnectionState
	}{"auditd asks for another hello", map[string]string{"tls_key_exchange": "P-384"},
		psktls.Settings{KeyExchange: "X25519MLKEM768:X25519:P-384"}, psktls.ConnectionState{Suite: psktls.AES128GCM, Group: psktls.P384, Retried: true}})
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			dir := privateDir(t)
			key := pskKey(t, dir, "host-1.key", 0x5a)
			addr, log := startNewestAuditd(t, program, dir, tt.stock)
			tt.ours.PSKFile, tt.ours.PSKIdentity = key, "host-1"
			conn, err := dialPSK(t, addr, tt.ours)
			if err != nil {
				t.Fatal(err)
			}
			checkState(t, conn.ConnectionState(), tt.want)
			sent := realLog(t, harness.RecordedEnriched(), harness.Make{Records: 400})
			sendAll(t, conn, sent)
			var got []string
			harness.Poll(time.Minute, func() bool {
				got, err = harness.LogLines(log)
				return err == nil && len(got) >= len(sent)
			})
			sameRecords(t, sent, withoutCrypto(got))
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			tt.ours.PSKFile = pskKey(t, dir, "other.key", 1)
			var peer *psktls.PeerAlert
			if _, err := dialPSK(t, addr, tt.ours); !errors.As(err, &peer) {
				t.Errorf("with a wrong key: %v", err)
			} else {
				t.Logf("with a wrong key: %v", err)
			}
		})
	}
}

// withoutCrypto leaves out what auditd writes of its own about its TLS sessions.
func withoutCrypto(lines []string) []string {
	return slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "type=CRYPTO_") })
}

func checkState(t *testing.T, got, want psktls.ConnectionState) {
	t.Helper()
	want.Identity = "host-1"
	if want.Group == 0 {
		want.Group = got.Group // what OpenSSL has: without ML-KEM before 3.5
		if got.Group != psktls.X25519 && got.Group != psktls.X25519MLKEM768 {
			t.Errorf("the group is %v", got.Group)
		}
		got.Retried = false
	}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	t.Logf("%v %v retried %v", got.Suite, got.Group, got.Retried)
}

func startNewestAuditd(t *testing.T, program, dir string, more map[string]string) (addr, log string) {
	t.Helper()
	port, err := need.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	run, plugins := filepath.Join(dir, "run"), filepath.Join(dir, "plugins")
	for _, d := range []string{run, plugins} {
		if err := os.Mkdir(d, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	log = filepath.Join(dir, "audit.log")
	confFile(t, dir, "auditd.conf", map[string]string{
		"local_events": "no", "tcp_listen_port": strconv.Itoa(port), "tcp_max_per_addr": "4", "use_libwrap": "no",
		"log_file": log, "log_group": "root", "plugin_dir": plugins, "max_log_file_action": "IGNORE", "max_log_file": "100",
		"space_left": "75", "space_left_action": "IGNORE", "admin_space_left": "50", "admin_space_left_action": "IGNORE",
		"transport": "TLS", "tls_psk_file": filepath.Join(dir, "host-1.key"), "tls_psk_identity": "host-1",
	}, more)
	auditd, err := harness.Start(harness.Spec{Name: "auditd 4.2.2", Args: []string{program, "-n", "-c", dir}, Bind: [][2]string{{run, "/run"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(auditd.Kill)
	addr = "127.0.0.1:" + strconv.Itoa(port)
	if !harness.Poll(time.Minute, func() bool { return listens(port) || auditd.Exited() }) || auditd.Exited() {
		t.Fatalf("auditd 4.2.2 does not listen:\n%s", auditd.Output())
	}
	return addr, log
}

// listens says whether somebody listens on the port, without a connection: the stock server
// counts it as one of TLS that failed.
func listens(port int) bool {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, _ := os.ReadFile(table)
		for _, line := range strings.Split(string(text), "\n") {
			if f := strings.Fields(line); len(f) > 3 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				return true
			}
		}
	}
	return false
}

func dialPSK(t *testing.T, addr string, settings psktls.Settings) (*psktls.Conn, error) {
	t.Helper()
	config, err := settings.Client()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.SetDeadline(time.Now().Add(time.Minute))
	conn := psktls.Client(raw, config)
	t.Cleanup(func() { conn.Close() })
	return conn, conn.Handshake(context.Background())
}

// sendAll sends records, many in flight, and reads an ACK for each, in order. auditd 4.2.2
// reads 8970 bytes at once, and when they end within a message waits for more to come from the
// network, though the rest may be in its TLS already: so each write, which is one TLS record,
// has whole messages of no more than that.
func sendAll(t *testing.T, conn net.Conn, lines []string) {
	t.Helper()
	wrote := make(chan error, 1)
	go func() {
		var out []byte
		var err error
		for i, line := range lines {
			if len(out)+16+len(line) > remote.MaxLength && err == nil {
				_, err = conn.Write(out)
				out = out[:0]
			}
			out = remote.Append(out, remote.Message, uint32(i+1), []byte(line))
		}
		if err == nil {
			_, err = conn.Write(out)
		}
		wrote <- err
	}()
	for i, next := 0, frames(conn); i < len(lines); i++ {
		frame, err := next()
		if err != nil || frame.Type != remote.Ack || frame.Seq != uint32(i+1) {
			t.Fatalf("reply %d: %v %d %v", i+1, frame.Type, frame.Seq, err)
		}
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
}

// frames reads one frame a call; it is valid until the next.
func frames(r io.Reader) func() (remote.Frame, error) {
	var buf []byte
	var decoder remote.Decoder
	chunk := make([]byte, 16<<10)
	return func() (remote.Frame, error) {
		for {
			frame, n, err := decoder.Decode(buf)
			if err != nil || n > 0 {
				buf = buf[n:]
				return frame, err
			}
			n, err = r.Read(chunk)
			if n == 0 && err != nil {
				return remote.Frame{}, err
			}
			buf = append(buf, chunk[:n]...)
		}
	}
}

// TestNewestAudispRemoteSpeaksPSK takes records from audisp-remote 4.2.2 over TLS with a
// pre-shared key.
func TestNewestAudispRemoteSpeaksPSK(t *testing.T) {
	program := newestTLS(t, "audisp-remote")
	cases := append(slices.Clone(pskCases), struct {
		name  string
		stock map[string]string
		ours  psktls.Settings
		want  psktls.ConnectionState
	}{"it is asked for another hello", map[string]string{"tls_key_exchange": "X25519:P-384"},
		psktls.Settings{KeyExchange: "P-384"}, psktls.ConnectionState{Suite: psktls.AES128GCM, Group: psktls.P384, Retried: true}})
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			dir := privateDir(t)
			key := pskKey(t, dir, "host-1.key", 0x5a)
			list := filepath.Join(dir, "clients")
			if err := os.WriteFile(list, []byte("# who\nhost-0 disabled key=/none/such\nhost-1 enabled key="+key+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			tt.ours.AllowedClients = list
			config, _, err := tt.ours.Server()
			if err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			sent := realLog(t, harness.RecordedEnriched(), harness.Make{Records: 100})
			startNewestRemote(t, program, dir, l, key, sent, tt.stock)
			_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute))
			raw, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = raw.SetDeadline(time.Now().Add(time.Minute))
			conn := psktls.Server(raw, config)
			defer conn.Close()
			if err := conn.Handshake(context.Background()); err != nil {
				t.Fatal(err)
			}
			checkState(t, conn.ConnectionState(), tt.want)
			var got []string
			for next := frames(conn); len(got) < len(sent); {
				frame, err := next()
				if err != nil {
					t.Fatalf("after %d records: %v", len(got), err)
				}
				got = append(got, string(frame.Payload))
				if _, err := conn.Write(remote.Append(nil, remote.Ack, frame.Seq, nil)); err != nil {
					t.Fatal(err)
				}
			}
			sameRecords(t, sent, got)
		})
	}
}

func startNewestRemote(t *testing.T, program, dir string, l net.Listener, key string, lines []string, more map[string]string) {
	t.Helper()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	conf := confFile(t, dir, "audisp-remote.conf", map[string]string{
		"remote_server": "127.0.0.1", "port": port, "transport": "tls", "mode": "immediate", "queue_depth": "20000", "format": "managed",
		"network_retry_time": "1", "max_tries_per_record": "3", "max_time_per_record": "20", "heartbeat_timeout": "0",
		"tls_psk_file": key, "tls_psk_identity": "host-1",
	}, more)
	in, w := io.Pipe() // which stays open: at the end of its input it would be gone
	go func() { _, _ = io.Copy(w, feed(lines)) }()
	sender, err := harness.Start(harness.Spec{Name: "audisp-remote 4.2.2", Args: []string{program}, In: in,
		Bind: [][2]string{{conf, "/etc/audit/audisp-remote.conf"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); sender.Kill() })
}
