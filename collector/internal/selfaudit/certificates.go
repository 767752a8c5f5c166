package selfaudit

import (
	"fmt"
	"net/netip"
)

// Certificate is what was done about a host's certificate, or about a token for one. What is
// empty is not known, or there is none.
type Certificate struct {
	Op          string // enroll, create-token …
	Host        string
	Token       string // its ID
	Serial      string
	Fingerprint string
	Peer        netip.AddrPort // not valid: it was done by command
	Reason      string         // a word: why it was refused; "" for what was done
}

// Certificate stores what was done about a certificate, or refused. Strangers cause refusals,
// so these are bounded like refused connections.
func (r *Records) Certificate(c Certificate) {
	text := "op=" + c.Op
	for _, f := range []struct{ name, value string }{{"host", c.Host}, {"token", c.Token}, {"serial", c.Serial}, {"fingerprint", c.Fingerprint}, {"reason", c.Reason}} {
		switch {
		case f.value == "":
		case f.name == "host":
			text += " host=" + encodeName(f.value)
		default:
			text += " " + f.name + "=" + f.value
		}
	}
	if c.Peer.IsValid() {
		text += fmt.Sprintf(" addr=%s port=%d", address(c.Peer.Addr()), c.Peer.Port())
	}
	if c.Reason != "" {
		r.stranger(r.refusals, "DAEMON_ACCEPT", c.Peer, "%s res=no", text)
		return
	}
	r.Add("DAEMON_CONFIG", "%s "+asker+" res=success", text)
}
