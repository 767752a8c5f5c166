package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/syslog"
)

// logger writes a line for each notice to the host's syslog, or to a server by RFC 5424.
type logger struct{ s Settings }

// lineBytes is the most of a line: what every syslog takes.
const lineBytes = 2000

func (l *logger) deliver(ctx context.Context, m *message) error {
	facility, err := facilityOf(l.s.Facility)
	if err != nil {
		return err
	}
	if l.s.Server != "" {
		return l.remote(ctx, m, facility)
	}
	timeout := l.s.Timeout
	if until, ok := ctx.Deadline(); ok {
		timeout = time.Until(until)
	}
	w := syslog.New(l.s.Socket, "auditfleet-collector", timeout)
	for i := range m.Alerts {
		n := &m.Alerts[i]
		if err := w.WriteContext(ctx, facility|level(n.Severity), []byte(line(n))); err != nil {
			return errors.Join(err, w.Close())
		}
	}
	return w.Close()
}

// facilityOf reads the name of a facility, with LOG_ before it or without.
func facilityOf(name string) (syslog.Priority, error) {
	p, facility, err := syslog.ParseWord("LOG_" + strings.TrimPrefix(strings.ToUpper(name), "LOG_"))
	if err != nil || !facility {
		return 0, fmt.Errorf("%q is no facility of syslog: want daemon, auth, authpriv, user or local0 to local7", name)
	}
	return p, nil
}

func level(severity string) syslog.Priority {
	switch rank(severity) {
	case 0:
		return syslog.Info
	case 1:
		return syslog.Warning
	}
	return syslog.Crit
}

// line is a notice as a line of text.
func line(n *keyed) string {
	var b strings.Builder
	fmt.Fprintf(&b, "alert=%s state=%s severity=%s", word(n.Condition), word(n.State), word(n.Severity))
	for _, name := range sorted(n.Labels) {
		fmt.Fprintf(&b, " %s=%s", word(name), word(n.Labels[name]))
	}
	if n.Value != "" {
		fmt.Fprintf(&b, " value=%s", word(n.Value))
	}
	fmt.Fprintf(&b, " started=%s", n.Started.UTC().Format(time.RFC3339))
	if !n.Ended.IsZero() {
		fmt.Fprintf(&b, " ended=%s", n.Ended.UTC().Format(time.RFC3339))
	}
	if n.Test {
		b.WriteString(" test=yes")
	}
	fmt.Fprintf(&b, " key=%s summary=%s", n.Key, strconv.Quote(plain(n.Summary, 1000)))
	return plain(b.String(), lineBytes)
}

// word is a value as it stands, or in quotes where it is more than a word.
func word(v string) string {
	v = plain(v, 300)
	if v == "" || strings.ContainsAny(v, " \"=") {
		return strconv.Quote(v)
	}
	return v
}

// remote sends the lines over TCP or TLS, each behind its length (RFC 6587, 5425). There is
// no answer in that protocol; that the server has read to the end shows when it closes.
func (l *logger) remote(ctx context.Context, m *message, facility syslog.Priority) error {
	host, _, err := net.SplitHostPort(l.s.Server)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.s.Server)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if l.s.TLS == tlsImplicit {
		config, err := l.s.tlsConfig(host)
		if err != nil {
			return err
		}
		secured := tls.Client(conn, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("TLS with %s: %w", l.s.Server, err)
		}
		conn = secured
	}
	var out strings.Builder
	for i := range m.Alerts {
		n := &m.Alerts[i]
		msg := fmt.Sprintf("<%d>1 %s %s auditfleet-collector %d alert - %s", facility|level(n.Severity),
			n.At.UTC().Format("2006-01-02T15:04:05.000000Z"), hostWord(m.Collector), os.Getpid(), line(n))
		fmt.Fprintf(&out, "%d %s", len(msg), msg)
	}
	if _, err := conn.Write([]byte(out.String())); err != nil {
		return fmt.Errorf("send to %s: %w", l.s.Server, err)
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil {
			return fmt.Errorf("send to %s: %w", l.s.Server, err)
		}
	}
	// A server that leaves its half open has read what it wants in two seconds.
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(conn, answerBytes))
	if err != nil && (!errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil) {
		return fmt.Errorf("%s closed before it had read all: %w", l.s.Server, err)
	}
	return nil
}

// hostWord is a name as the header of RFC 5424 has it.
func hostWord(name string) string {
	name = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, name)
	if name == "" {
		return "-"
	}
	return name[:min(len(name), 255)]
}
