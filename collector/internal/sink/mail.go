package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
)

// mailer sends a mail for each message. Its Message-ID is the message's, so a mailbox can
// tell one that comes twice.
type mailer struct{ s Settings }

// smtpBytes is the most that a server may say in a session.
const smtpBytes = 1 << 20

func (l *mailer) deliver(ctx context.Context, m *message) error {
	err := l.send(ctx, m, l.s.To)
	var sent *mail.SendError
	switch {
	case !errors.As(err, &sent):
		return l.scrub(err)
	case sent.Reason == mail.ErrSMTPRcptTo && len(l.s.To) > 1:
		return l.each(ctx, m) // a server that refuses one recipient would keep the mail from all
	case sent.Reason == mail.ErrSMTPRcptTo, sent.Reason == mail.ErrSMTPMailFrom:
		return l.scrub(err) // the addresses are at fault, not the mail: they are repaired some day
	case !sent.IsTemp() && sent.ErrorCode() >= 550:
		return refusal{l.scrub(err)}
	}
	return l.scrub(err)
}

// each sends to each recipient by itself. It fails when none has taken the mail; where some have,
// the others are said, and not tried again: those who have it would get it again and again.
func (l *mailer) each(ctx context.Context, m *message) error {
	var errs []error
	for _, to := range l.s.To {
		if err := l.send(ctx, m, []string{to}); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", to, l.scrub(err)))
		}
	}
	err := errors.Join(errs...)
	if err != nil && len(errs) < len(l.s.To) {
		return partly{err}
	}
	return err
}

// scrub returns an error without the password that the server may have said back.
func (l *mailer) scrub(err error) error {
	if err == nil {
		return nil
	}
	password := ""
	if l.s.PasswordFile != "" {
		password, _ = readWord(l.s.PasswordFile) // it was read before, or that is the error
	}
	return errors.New("mail by " + l.s.Server + ": " + said([]byte(err.Error()), password))
}

func (l *mailer) send(ctx context.Context, m *message, to []string) error {
	msg, err := l.compose(m, to)
	if err != nil {
		return err
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close() // go-mail leaves one open that failed
		}
	}()
	client, err := l.client(ctx, func(c net.Conn) { conns = append(conns, c) })
	if err != nil {
		return err
	}
	if err := client.DialWithContext(ctx); err != nil {
		return err
	}
	err = client.Send(msg)
	_ = client.Close()
	if msg.IsDelivered() { // what was taken is taken, whatever becomes of the connection
		return nil
	}
	return err
}

// client returns a client with the files as they are now; it calls dialled with each connection that it makes, which the caller closes.
func (l *mailer) client(ctx context.Context, dialled func(net.Conn)) (*mail.Client, error) {
	host, port, err := net.SplitHostPort(l.s.Server)
	if err != nil {
		return nil, err
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return nil, err
	}
	config, err := l.s.tlsConfig(host)
	if err != nil {
		return nil, err
	}
	dial := func(dialing context.Context, network, address string) (net.Conn, error) { // go-mail ends dialing with the dialing
		conn, err := l.dial(dialing, ctx, network, address)
		if conn != nil {
			dialled(conn)
		}
		return conn, err
	}
	opts := []mail.Option{mail.WithPort(number), mail.WithTLSConfig(config), mail.WithTimeout(l.s.Timeout), mail.WithDialContextFunc(dial)}
	switch l.s.TLS {
	case tlsNone:
		opts = append(opts, mail.WithTLSPolicy(mail.NoTLS))
	case tlsImplicit:
		opts = append(opts, mail.WithTLSPolicy(mail.NoTLS), mail.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			secured := tls.Client(conn, config)
			return secured, secured.HandshakeContext(ctx)
		}))
	default:
		opts = append(opts, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if l.s.User != "" {
		password, err := readWord(l.s.PasswordFile)
		if err != nil {
			return nil, err
		}
		kind := mail.SMTPAuthAutoDiscover
		if l.s.TLS != tlsStart { // go-mail does not know that it speaks TLS; clear text is to this machine only
			kind = mail.SMTPAuthPlainNoEnc
		}
		opts = append(opts, mail.WithSMTPAuth(kind), mail.WithUsername(l.s.User), mail.WithPassword(password))
	}
	return mail.NewClient(host, opts...)
}

// compose writes the mail. Whatever notices say, its headers are of our making.
func (l *mailer) compose(m *message, to []string) (*mail.Msg, error) {
	msg := mail.NewMsg()
	if err := errors.Join(msg.From(l.s.From), msg.To(to...)); err != nil {
		return nil, err
	}
	_, domain, _ := strings.Cut(l.s.From, "@")
	msg.SetMessageIDWithValue(m.ID + "@" + domain)
	msg.SetDateWithValue(m.sent)
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetGenHeader("X-Auditfleet-Condition", plain(m.Condition, 100))
	msg.SetGenHeader("X-Auditfleet-Severity", plain(m.Severity, 20))
	msg.Subject(subject(m))
	msg.SetBodyString(mail.TypeTextPlain, text(m))
	return msg, nil
}

// subject is short and on one line.
func subject(m *message) string {
	s := strings.ToUpper(m.Severity)
	if m.State == Resolved {
		s = "RESOLVED"
	}
	s += " " + m.Condition
	if n := len(m.Alerts) + m.More; n > 1 {
		s += " (" + strconv.Itoa(n) + ")"
	} else if host := m.Alerts[0].Labels["host"]; host != "" {
		s += " " + host
	}
	if m.Alerts[0].Test {
		s = "TEST " + s
	}
	return plain("["+m.Collector+"] "+s, 150)
}

// text is a group for people.
func text(m *message) string {
	var b strings.Builder
	const stamp = "2006-01-02 15:04:05 MST"
	for i := range m.Alerts {
		n := &m.Alerts[i]
		fmt.Fprintf(&b, "%s\r\n", plain(n.Summary, 1000))
		for _, name := range sorted(n.Labels) {
			fmt.Fprintf(&b, "  %s: %s\r\n", plain(name, 60), plain(n.Labels[name], 300))
		}
		if n.Value != "" {
			fmt.Fprintf(&b, "  value: %s\r\n", plain(n.Value, 300))
		}
		fmt.Fprintf(&b, "  since: %s\r\n", n.Started.Format(stamp))
		if !n.Ended.IsZero() {
			fmt.Fprintf(&b, "  until: %s\r\n", n.Ended.Format(stamp))
		}
		b.WriteString("\r\n")
	}
	if m.More > 0 {
		fmt.Fprintf(&b, "And %d more: \"collector alerts\" lists them.\r\n\r\n", m.More)
	}
	if m.Alerts[0].Test {
		b.WriteString("This is a test: nothing is wrong.\r\n\r\n")
	}
	fmt.Fprintf(&b, "-- \r\nauditfleet collector %s: %s, severity %s, %s\r\n", plain(m.Collector, 255), plain(m.Condition, 100), plain(m.Severity, 20), plain(m.State, 20))
	return b.String()
}

func sorted(labels map[string]string) []string { return slices.Sorted(maps.Keys(labels)) }

// dial connects, and bounds the connection by what the server says, and by the whole delivery: its
// deadline, and its end when the collector ends or the sink is taken away.
func (l *mailer) dial(dialing, delivery context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(dialing, network, address)
	if err != nil {
		return nil, err
	}
	c := &bounded{Conn: conn, left: smtpBytes, ctx: delivery}
	c.release = context.AfterFunc(delivery, func() { _ = conn.SetDeadline(longAgo) })
	return c, c.SetDeadline(time.Time{}) // the connection also with an error
}

// longAgo is the deadline that ends what a connection waits for.
var longAgo = time.Unix(1, 0)

// bounded is a connection on which only so much may be read, and only until a context is done,
// which nobody can put off.
type bounded struct {
	net.Conn
	left    int
	ctx     context.Context //nolint:containedctx // of the connection's whole life
	release func() bool
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the server says more than a mail server may")
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// Close implements net.Conn.
func (b *bounded) Close() error {
	b.release()
	return b.Conn.Close()
}

// SetDeadline implements net.Conn.
func (b *bounded) SetDeadline(t time.Time) error { return b.until(t, b.Conn.SetDeadline) }

// SetReadDeadline implements net.Conn.
func (b *bounded) SetReadDeadline(t time.Time) error { return b.until(t, b.Conn.SetReadDeadline) }

// SetWriteDeadline implements net.Conn.
func (b *bounded) SetWriteDeadline(t time.Time) error { return b.until(t, b.Conn.SetWriteDeadline) }

func (b *bounded) until(t time.Time, set func(time.Time) error) error {
	if end, ok := b.ctx.Deadline(); ok && (t.IsZero() || t.After(end)) {
		t = end
	}
	err := set(t)
	if b.ctx.Err() != nil { // perhaps since before set, which has put it off then
		return errors.Join(err, b.Conn.SetDeadline(longAgo), os.ErrDeadlineExceeded)
	}
	return err
}
