package sink

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// smtpServer is a small mail server with STARTTLS and AUTH PLAIN. It refuses recipients
// whose name begins with "no", or for now with "full".
type smtpServer struct {
	addr, ca string
	config   *tls.Config
	cuts     atomic.Bool // it cuts the connection once it has a mail
	ready    sync.WaitGroup

	mu    sync.Mutex
	mails []string // recipients, a line, then the mail
	auth  []string
}

func newSMTP(t *testing.T) *smtpServer {
	t.Helper()
	certs := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate of 127.0.0.1
	t.Cleanup(certs.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certs.Certificate().Raw})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &smtpServer{addr: ln.Addr().String(), config: &tls.Config{Certificates: certs.TLS.Certificates}, ca: write(t, filepath.Join(t.TempDir(), "ca"), string(ca), 0o644)}
	s.ready.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.ready.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); s.ready.Wait() })
	return s
}

func (s *smtpServer) serve(conn net.Conn) {
	defer func() { conn.Close() }()
	in := bufio.NewReader(conn)
	say := func(line string) { fmt.Fprint(conn, line+"\r\n") }
	say("220 test")
	secured, to := false, ""
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			if secured {
				say("250-test\r\n250 AUTH PLAIN")
			} else {
				say("250-test\r\n250 STARTTLS")
			}
		case "STARTTLS":
			say("220 go on")
			c := tls.Server(conn, s.config)
			if c.Handshake() != nil {
				return
			}
			conn, in, secured = c, bufio.NewReader(c), true
		case "AUTH":
			s.mu.Lock()
			s.auth = append(s.auth, rest)
			s.mu.Unlock()
			say("235 ok")
		case "RCPT":
			if strings.HasPrefix(rest, "TO:<no") {
				say("550 5.1.1 no such user")
				continue
			}
			if strings.HasPrefix(rest, "TO:<full") {
				say("452 4.2.2 over quota")
				continue
			}
			to += rest + "\n"
			say("250 ok")
		case "RSET":
			to = ""
			say("250 ok")
		case "DATA":
			say("354 go on")
			var text strings.Builder
			for {
				l, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if l == ".\r\n" {
					break
				}
				text.WriteString(l)
			}
			s.mu.Lock()
			s.mails = append(s.mails, to+"\n"+text.String())
			s.mu.Unlock()
			say("250 ok")
			if s.cuts.Load() {
				return
			}
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (s *smtpServer) conf(t *testing.T, to string) string {
	return "type = mail\ntimeout = 5\nserver = " + s.addr + "\nca = " + s.ca + "\nfrom = audit@example.net\n" +
		"to = " + to + "\nuser = audit\npassword_file = " + write(t, filepath.Join(t.TempDir(), "password"), "hunter2\n", 0o600) + "\n"
}

// A mail says what is wrong, comes over TLS to all recipients that there are, and what a
// host calls itself adds no header.
func TestMail(t *testing.T) {
	t.Parallel()
	server := newSMTP(t)
	s := open(t, load(t, t.TempDir(), map[string]string{"x": server.conf(t, "soc@example.net,nobody@example.net")}), t.TempDir())
	s.Deliver(one(notice("a\r\nBcc: evil@example.net\r\n\r\nbody", Firing, 0)))
	need.Wait(t, "it is delivered", func() bool { return s.Status()[0].Delivered == 1 })
	server.mu.Lock()
	defer server.mu.Unlock()
	if len(server.mails) != 1 || len(server.auth) == 0 {
		t.Fatalf("%d mails, %d logins", len(server.mails), len(server.auth))
	}
	got := server.mails[0]
	head, body, _ := strings.Cut(got, "\r\n\r\n")
	for _, want := range []string{"TO:<soc@example.net>", "Subject: [collector1] CRITICAL loss a Bcc: evil@example.net body", "Auto-Submitted: auto-generated", "Message-ID: <msg_"} {
		if !strings.Contains(strings.ReplaceAll(head, "\r\n ", " "), want) {
			t.Errorf("no %q in %s", want, head)
		}
	}
	if strings.Contains(head, "\nBcc:") || !strings.Contains(body, "value: 3 records") {
		t.Errorf("%s", got)
	}
}

// A mail server whose certificate is not known, that does without TLS, or talks without end
// gets neither mail nor password.
func TestMailServerNotKnown(t *testing.T) {
	t.Parallel()
	server := newSMTP(t)
	err := tested(t, strings.ReplaceAll(server.conf(t, "soc@example.net"), "ca = ", "# ca = "))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Error(err)
	}
	if err := tested(t, server.conf(t, "no@example.net")); err == nil {
		t.Error("delivered to nobody")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for err == nil {
			_, err = fmt.Fprint(c, strings.Repeat("220-more\r\n", 1000))
		}
	}()
	defer func() { ln.Close(); <-done }()
	plain := strings.ReplaceAll(server.conf(t, "soc@example.net"), server.addr, ln.Addr().String())
	s := open(t, load(t, t.TempDir(), map[string]string{"x": plain}), t.TempDir())
	if err := s.Test(context.Background(), "x", one(notice("a", Firing, 0))); err == nil {
		t.Error("delivered to one that talks without end")
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	if len(server.mails) != 0 {
		t.Errorf("%d mails", len(server.mails))
	}
}
