package listen

import (
	"net/netip"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/seldom"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

const (
	// refusalsLogged is how many refusals are logged in each refusalsEvery, of any
	// address; logAgain is how long one address is not named again.
	refusalsLogged = 5
	refusalsEvery  = 10 * time.Second
	logAgain       = 10 * time.Minute
	// addrsLogged bounds the addresses that are remembered for that.
	addrsLogged = 1024
)

// refusals are the log lines about connections that were refused: whoever is refused
// for the configuration's sake tries again for ever, and somebody has to hear of it.
type refusals struct {
	limiter seldom.Limiter
	logged  map[refusal]time.Time // guarded by Listener.mu
}

// refusal is what a line says once.
type refusal struct {
	addr   netip.Addr
	reason string
}

// whatToDo says it of each reason, with the key that is the cause.
var whatToDo = map[string]string{
	metrics.RefusedDup: "its address has as many connections as tcp_max_per_addr allows; if several senders share the address " +
		"(NAT, containers, a forwarder beside audisp-remote), raise tcp_max_per_addr (--tcp-max-per-addr), else stop the other sender",
	metrics.RefusedPort: "its port is not one of tcp_client_ports; have the sender use one of those (local_port in its audisp-remote.conf), " +
		"or change tcp_client_ports (--tcp-client-ports)",
	metrics.RefusedUntrusted: "its address is in no line of trusted_senders, and untrusted_senders is refuse; add a line with its name and address " +
		"if it is yours, and have the file read again by SIGHUP",
	metrics.RefusedProxy: "its address is in proxy_protocol_from (--proxy-protocol-from; for TLS tls_proxy_protocol_from), so it must begin with a PROXY header that says whose it is; " +
		"have the proxy send one (protocol = proxy in a service of stunnel's, send-proxy in haproxy), or take the address out; " +
		"what connects directly needs another address",
	metrics.RefusedLimit: "there are as many connections as max_connections (--max-connections), or the limit of open files (LimitNOFILE=, " +
		"ulimit -n), allows; raise them if all these senders are yours",
}

// refuse counts and says that a connection was refused; cause is what was wrong with its
// PROXY header.
func (l *Listener) refuse(c *Conn, reason string, cause error) {
	l.cfg.Metrics.Refused.Add(reason, 1)
	l.logRefused(c, reason, cause)
	l.report(Report{Op: stockOp(reason), Peer: c.peer})
}

// logRefused warns of a refusal, unless its address was named not long ago.
func (l *Listener) logRefused(c *Conn, reason string, cause error) {
	addr := c.peer.Addr().Unmap()
	what := refusal{addr, reason}
	if reason == metrics.RefusedLimit {
		what.addr = netip.Addr{} // it is nothing about this one
	}
	now := time.Now()
	l.mu.Lock()
	limits, open, n := l.limits, len(l.conns), len(l.byAddr[c.peer.Addr()])
	at, known := l.refusals.logged[what]
	again := !l.ended && (!known || now.Sub(at) >= logAgain)
	l.mu.Unlock()
	if !again {
		return
	}
	ok, suppressed := l.refusals.limiter.Allow()
	if !ok {
		return
	}
	l.mu.Lock()
	if len(l.refusals.logged) >= addrsLogged {
		clear(l.refusals.logged)
	}
	l.refusals.logged[what] = now
	l.mu.Unlock()
	args := []any{"addr", addr, "port", c.peer.Port()}
	if c.via.IsValid() {
		args = append(args, "proxy", c.via)
	}
	switch reason {
	case metrics.RefusedDup:
		args = append(args, "tcp_max_per_addr", limits.MaxPerAddr, "open", n)
	case metrics.RefusedUntrusted:
	case metrics.RefusedProxy:
		args = append(args, "cause", cause)
	case metrics.RefusedPort:
		args = append(args, "first", limits.MinPort, "last", limits.MaxPort)
	default:
		args = append(args, "most", limits.MaxConns, "open", open)
	}
	l.cfg.Log.Warn("refused a connection: "+whatToDo[reason], append(args, "others_not_named", suppressed)...)
}
