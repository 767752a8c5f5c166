package psktls

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/need"
)

// start runs a program until the test ends. Its standard input is a pipe.
func start(t *testing.T, name string, args ...string) (stdin io.Writer, out *need.Buffer) {
	t.Helper()
	cmd := exec.Command(need.Tool(t, name), args...)
	pipe, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out = &need.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s says:\n%s", name, out.String())
		}
	})
	return pipe, out
}

func freePort(t *testing.T) string {
	t.Helper()
	port, err := need.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// dial shakes hands with a server that is just starting.
func dial(t *testing.T, port string, config *Config) (*Conn, error) {
	t.Helper()
	var raw net.Conn
	need.Wait(t, "the server to listen", func() bool {
		var err error
		raw, err = net.Dial("tcp", "127.0.0.1:"+port)
		return err == nil
	})
	_ = raw.SetDeadline(time.Now().Add(time.Minute))
	conn := Client(raw, config)
	t.Cleanup(func() { conn.Close() })
	return conn, conn.Handshake(context.Background())
}

// accept shakes hands with the one client that comes.
func accept(t *testing.T, l net.Listener, config *Config) (*Conn, error) {
	t.Helper()
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute))
	raw, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.SetDeadline(time.Now().Add(time.Minute))
	conn := Server(raw, config)
	t.Cleanup(func() { conn.Close() })
	return conn, conn.Handshake(context.Background())
}

func listen(t *testing.T) (net.Listener, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return l, port
}

// lines sends lines and reads what comes back for each.
func lines(t *testing.T, conn *Conn, count int, answer func(string) string) {
	t.Helper()
	r := bufio.NewReader(conn)
	for i := range count {
		line := fmt.Sprintf("record %d %s.", i, strings.Repeat("x", i*37))
		if _, err := conn.Write([]byte(line + "\n")); err != nil {
			t.Fatal(err)
		}
		got, err := r.ReadString('\n')
		if want := answer(line); err != nil || strings.TrimSpace(got) != want {
			t.Fatalf("line %d: %q %v, want %q", i, got, err, want)
		}
	}
}

func reversed(s string) string {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}

func same(s string) string { return s }

const pskPriority = "NONE:+VERS-TLS1.3:+AES-128-GCM:+CHACHA20-POLY1305:+AEAD:+SHA256:+ECDHE-PSK:+SIGN-ALL:+COMP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+CTYPE-X509"

func pskFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "psk.txt")
	if err := os.WriteFile(name, []byte("host-1:"+hex.EncodeToString(testKey)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// opensslHas skips a test of a group with ML-KEM where OpenSSL is older than 3.5, which is
// the first that has it: also where no test may be skipped, since Debian 12 has 3.0.
func opensslHas(t *testing.T, group Group) {
	t.Helper()
	if !group.PostQuantum() {
		return
	}
	out, _ := exec.Command(need.Tool(t, "openssl"), "list", "-kem-algorithms").Output()
	if !strings.Contains(string(out), "X25519MLKEM768") {
		t.Skip("the openssl here has no ML-KEM")
	}
}

func TestClientSpeaksToOthers(t *testing.T) {
	if testing.Short() {
		t.Skip("real servers are not started under -short")
	}
	key := hex.EncodeToString(testKey)
	openssl := func(more ...string) func(*testing.T, string) []string {
		return func(_ *testing.T, port string) []string {
			return append([]string{"openssl", "s_server", "-accept", "127.0.0.1:" + port, "-psk", key, "-psk_identity", "host-1", "-nocert", "-tls1_3", "-rev", "-groups", "X25519"}, more...)
		}
	}
	gnutls := func(priority string) func(*testing.T, string) []string {
		return func(t *testing.T, port string) []string {
			return []string{"gnutls-serv", "--port", port, "--pskpasswd", pskFile(t), "--echo", "--priority", priority}
		}
	}
	for _, tt := range []struct {
		name   string
		server func(t *testing.T, port string) []string
		config Config
		answer func(string) string
		want   ConnectionState
	}{
		{"openssl", openssl(), Config{}, reversed, ConnectionState{Suite: AES128GCM, Group: X25519}},
		{"openssl, ChaCha", openssl("-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"), Config{Suites: []Suite{ChaCha20Poly1305}}, reversed, ConnectionState{Suite: ChaCha20Poly1305, Group: X25519}},
		{"openssl asks for another group", openssl("-groups", "P-384"), Config{Groups: []Group{X25519MLKEM768, X25519, P384}}, reversed, ConnectionState{Suite: AES128GCM, Group: P384, Retried: true}},
		{"openssl with ML-KEM", openssl("-groups", "X25519MLKEM768"), Config{}, reversed, ConnectionState{Suite: AES128GCM, Group: X25519MLKEM768}},
		{"openssl with P-384 and ML-KEM", openssl("-groups", "SecP384r1MLKEM1024"), Config{Groups: PQCGroups()}, reversed, ConnectionState{Suite: AES128GCM, Group: SecP384r1MLKEM1024, Retried: true}},
		{"gnutls", gnutls(pskPriority), Config{}, same, ConnectionState{Suite: AES128GCM, Group: X25519}},
		{"gnutls asks for another group", gnutls(strings.Replace(pskPriority, ":+GROUP-X25519", "", 1)), Config{Groups: []Group{X25519, P256}}, same, ConnectionState{Suite: AES128GCM, Group: P256, Retried: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			opensslHas(t, tt.want.Group)
			port := freePort(t)
			command := tt.server(t, port)
			start(t, command[0], command[1:]...)
			conn, err := dial(t, port, withKey(tt.config))
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Identity = "host-1"
			if got := conn.ConnectionState(); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			conn.out.renewal = 7 // they follow to new keys
			lines(t, conn, 40, tt.answer)
		})
	}
	t.Run("openssl refuses a wrong key", func(t *testing.T) {
		port := freePort(t)
		command := openssl()(t, port)
		start(t, command[0], command[1:]...)
		if _, err := dial(t, port, withKey(Config{Key: bytes.Repeat([]byte{1}, 32)})); err == nil || !strings.Contains(err.Error(), "the other end sent") {
			t.Errorf("a wrong key: %v", err)
		}
	})
}

func TestServerIsSpokenToByOthers(t *testing.T) {
	if testing.Short() {
		t.Skip("real clients are not started under -short")
	}
	key := hex.EncodeToString(testKey)
	openssl := func(more ...string) func(string) []string {
		return func(port string) []string {
			return append([]string{"openssl", "s_client", "-connect", "127.0.0.1:" + port, "-psk", key, "-psk_identity", "host-1", "-tls1_3", "-groups", "X25519"}, more...)
		}
	}
	gnutls := func(priority string) func(string) []string {
		return func(port string) []string {
			return []string{"gnutls-cli", "--port", port, "--pskusername", "host-1", "--pskkey", key, "--priority", priority, "127.0.0.1"}
		}
	}
	for _, tt := range []struct {
		name   string
		client func(port string) []string
		config Config
		want   ConnectionState
	}{
		{"openssl", openssl(), Config{}, ConnectionState{Suite: ChaCha20Poly1305, Group: X25519}},
		{"openssl, AES", openssl("-ciphersuites", "TLS_AES_128_GCM_SHA256"), Config{}, ConnectionState{Suite: AES128GCM, Group: X25519}},
		{"openssl is asked for another group", openssl("-groups", "X25519:P-521"), Config{Groups: []Group{P521}}, ConnectionState{Suite: ChaCha20Poly1305, Group: P521, Retried: true}},
		{"openssl without compatibility", openssl("-no_middlebox"), Config{}, ConnectionState{Suite: ChaCha20Poly1305, Group: X25519}},
		{"openssl with ML-KEM", openssl("-groups", "X25519MLKEM768:X25519"), Config{}, ConnectionState{Suite: ChaCha20Poly1305, Group: X25519MLKEM768}},
		{"openssl is asked for ML-KEM", openssl("-groups", "X25519:SecP256r1MLKEM768"), Config{Groups: PQCGroups(), RequirePQC: true}, ConnectionState{Suite: ChaCha20Poly1305, Group: SecP256r1MLKEM768, Retried: true}},
		{"gnutls", gnutls(pskPriority), Config{}, ConnectionState{Suite: AES128GCM, Group: X25519}},
		{"gnutls is asked for another group", gnutls(pskPriority + ":+GROUP-SECP384R1"), Config{Groups: []Group{P384}}, ConnectionState{Suite: AES128GCM, Group: P384, Retried: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			opensslHas(t, tt.want.Group)
			l, port := listen(t)
			command := tt.client(port)
			stdin, out := start(t, command[0], command[1:]...)
			conn, err := accept(t, l, withKey(tt.config))
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Identity = "host-1"
			if got := conn.ConnectionState(); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			conn.out.renewal = 3
			r := bufio.NewReader(conn)
			for i := range 10 {
				line := fmt.Sprintf("hello %d from the client\n", i)
				if _, err := io.WriteString(stdin, line); err != nil {
					t.Fatal(err)
				}
				if got, err := r.ReadString('\n'); err != nil || got != line {
					t.Fatalf("%q %v", got, err)
				}
				if i == 5 && command[0] == "openssl" {
					// s_client asks for new keys on both sides.
					if _, err := io.WriteString(stdin, "K\n"); err != nil {
						t.Fatal(err)
					}
					need.Wait(t, "openssl to update its keys", func() bool { return strings.Contains(out.String(), "KEYUPDATE") })
				}
				back := fmt.Sprintf("and back %d\n", i)
				if _, err := conn.Write([]byte(back)); err != nil {
					t.Fatal(err)
				}
				need.Wait(t, "the client to print it", func() bool { return strings.Contains(out.String(), back) })
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("openssl with certificates only", func(t *testing.T) {
		l, port := listen(t)
		_, out := start(t, "openssl", "s_client", "-connect", "127.0.0.1:"+port, "-tls1_3")
		if _, err := accept(t, l, withKey(Config{})); err == nil || !strings.Contains(err.Error(), ErrNoKeyOffered.Error()) {
			t.Errorf("no key: %v", err)
		}
		need.Wait(t, "openssl to name the alert", func() bool { return strings.Contains(out.String(), "handshake failure") })
	})
	t.Run("openssl with an old protocol", func(t *testing.T) {
		l, port := listen(t)
		_, out := start(t, "openssl", "s_client", "-connect", "127.0.0.1:"+port, "-tls1_2")
		if _, err := accept(t, l, withKey(Config{})); err == nil || !strings.Contains(err.Error(), "does not offer TLS 1.3") {
			t.Errorf("TLS 1.2: %v", err)
		}
		need.Wait(t, "openssl to name the alert", func() bool { return strings.Contains(out.String(), "protocol version") })
	})
}
