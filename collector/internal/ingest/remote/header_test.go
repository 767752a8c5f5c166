package remote

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/auditfleet/auditfleet/pkg/metrics/metricstest"
)

// A PROXY header that reaches the sessions is a stranger's, or a second one: the stream is
// refused, however it is torn, no record is made of it, and the log says what to configure.
func TestProxyHeaderIsNoRecord(t *testing.T) {
	t.Parallel()
	const v1, v2 = "PROXY TCP4 192.0.2.7 198.51.100.1 40000 60\r\n", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\x9c\x40\x00\x3c"
	for _, header := range []string{v1, v2} {
		for _, torn := range []bool{false, true} {
			f := setup(t, nil)
			c := f.dial()
			text := header + string(message(1, "behind"))
			if torn {
				for _, b := range []byte(text) {
					if _, err := c.Write([]byte{b}); err != nil {
						break // closed for what it sent
					}
				}
			} else {
				c.send([]byte(text))
			}
			c.want("EOF")
			<-c.done
			if got := f.j.stored(); len(got) > 0 {
				t.Errorf("%q are stored", got)
			}
			if n := metricstest.Value(t, f.reg, "auditfleet_collector_malformed_total", `cause="proxy"`); n != 1 {
				t.Errorf("%v are counted", n)
			}
			if log := f.log.String(); !strings.Contains(log, "proxy_protocol_from") {
				t.Errorf("the log does not say what to configure:\n%s", log)
			}
		}
	}
}

// Lines that only look like a header's beginning are lines, and later ones are, too.
func TestNearlyProxyHeader(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	c := f.dial()
	lines := []string{"PROXYTCP4 a", "PROXY TCP4 192.0.2.7 198.51.100.1 40000 60\r", "\r", "\r", "b"}
	c.send([]byte(strings.Join(lines, "\n") + "\n"))
	c.CloseWrite()
	c.want("EOF")
	<-c.done
	if diff := cmp.Diff(lines, f.j.stored()); diff != "" {
		t.Error(diff)
	}
	f = setup(t, nil)
	c = f.dial()
	c.send([]byte("\r\n"))
	c.send([]byte("\r\nx\n"))
	c.CloseWrite()
	c.want("EOF")
	<-c.done
	if diff := cmp.Diff([]string{"\r", "\r", "x"}, f.j.stored()); diff != "" {
		t.Error(diff)
	}
}
