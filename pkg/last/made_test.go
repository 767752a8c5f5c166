package last

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// made makes logs of logins: of few processes, sessions and users, so that they meet.
type made struct {
	rng    *rand.Rand
	lines  []string
	sec    int64
	serial int
}

func pick[T any](m *made, list ...T) T { return list[m.rng.IntN(len(list))] }

func (m *made) add(typ, body string) {
	m.serial++
	m.sec += pick[int64](m, 3, 7, 60, 3599, 3600, 7200, 86399, 86400, 200000)
	m.lines = append(m.lines, fmt.Sprintf("type=%s msg=audit(%d.%03d:%d): %s", typ, m.sec, m.rng.IntN(1000), m.serial, body))
}

func (m *made) pid() string { return pick(m, "100", "100", "200", "300", "4294967295", "x") }
func (m *made) ses() string { return pick(m, "1", "1", "2", "3", "0", "4294967295", "1x") }
func (m *made) uid() string {
	return pick(m, "0", "1", "1", "2", "987654", "4294967295", "-1")
}

func (m *made) result() string {
	return pick(m, "success", "success", "success", "success", "failed", "no", "1")
}

func (m *made) tty() string {
	return pick(m, "/dev/pts/0", "pts/12", "ssh", "/dev/tty1", ":0", "?", "/dev/", `"/dev/x"`, "a-long-name-of-a-terminal", "console,")
}

func (m *made) from() string {
	return pick(m, "192.0.2.1", "?", "web1.example.com", "2001:db8::1:2:3:4", "?", `"q"`, "(none)", "(null)")
}

func (m *made) acct() string {
	return pick(m, `"joe"`, "6A6F65", `"(unknown user)"`, "28756E6B6E6F776E207573657229", "?", `"a-long-account-name"`, "6A1B5B33316D", "C3A4C3B6C3BC", "joe", `""`)
}

// fields returns some fields in some order, often all in theirs.
func (m *made) fields(list ...string) string {
	switch m.rng.IntN(10) {
	case 0:
		m.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	case 1:
		i := m.rng.IntN(len(list))
		list = append(list[:i:i], list[i+1:]...)
	case 2:
		i, j := m.rng.IntN(len(list)), m.rng.IntN(len(list))
		list = append(list[:i:i], append([]string{list[j]}, list[i:]...)...)
	}
	return strings.Join(list, " ")
}

func (m *made) tail(fields ...string) string {
	if m.rng.IntN(4) > 0 {
		return ""
	}
	return "\x1d" + strings.Join(fields, " ")
}

func (m *made) login() {
	pid, uid, ses := m.pid(), m.uid(), m.ses()
	body := m.fields("pid="+pid, "uid=0", "old-auid=4294967295", "auid="+uid, "tty=(none)", "old-ses=4294967295", "ses="+ses, "res=1")
	switch m.rng.IntN(8) {
	case 0:
		body = "login pid=" + pid + " uid=0 old auid=4294967295 new auid=" + uid + " old ses=4294967295 new ses=" + ses
	case 1:
		body = m.fields("pid="+pid, "uid=0", "auid=4294967295", "auid="+uid, "ses=4294967295", "ses="+ses)
	}
	m.add("LOGIN", body+m.tail(`UID="root"`, `OLD-AUID="unset"`, `AUID="`+pick(m, "joe", "unset", "hans-peter")+`"`))
	for m.rng.IntN(2) == 0 { // what belongs to it
		switch m.rng.IntN(3) {
		case 0, 1:
			m.userLogin(pid, uid, ses, m.result())
		default:
			m.end(pid, uid, ses)
		}
	}
}

func (m *made) userLogin(pid, uid, ses, result string) {
	who := pick(m, "id="+uid, "id="+uid, "acct="+m.acct(), "uid="+uid, "acct="+m.acct()+" id="+uid)
	rest := m.fields("op=login", who, `exe="/usr/sbin/sshd"`, "hostname="+m.from(), "addr="+m.from(), "terminal="+m.tty(), "res="+result)
	body := m.fields("pid="+pid, "uid=0", "auid="+uid, "ses="+ses, "msg='"+rest+"'")
	m.add("USER_LOGIN", body+m.tail(`UID="root"`, `AUID="joe"`, `ID="joe"`))
}

func (m *made) end(pid, uid, ses string) {
	m.add("USER_END", m.fields("pid="+pid, "uid=0", "auid="+uid, "ses="+ses, `msg='op=PAM:session_close acct="root" exe="/x" hostname=? addr=? terminal=ssh res=`+m.result()+"'"))
}

const bootMsg = `pid=1 uid=0 auid=4294967295 ses=4294967295 msg=' comm="systemd-update-utmp" exe="/usr/lib/systemd/systemd-update-utmp" hostname=? addr=? terminal=? res=success'`

// step adds something.
func (m *made) step() {
	switch m.rng.IntN(14) {
	case 0, 1, 2, 3, 4:
		m.login()
	case 5, 6:
		m.userLogin(m.pid(), m.uid(), m.ses(), m.result())
	case 7, 8:
		m.end(m.pid(), m.uid(), m.ses())
	case 9:
		m.add("SYSTEM_BOOT", bootMsg)
	case 10:
		m.add("SYSTEM_SHUTDOWN", bootMsg)
	case 11:
		m.add("DAEMON_START", m.fields("op=start", "ver=3.0.9", "format=enriched", "kernel="+pick(m, "6.1.0-10-amd64", `"6.12"`, "?"), "auid=4294967295", "pid=1", "res=success"))
	case 12:
		m.add(pick(m, "USER_START", "USER_LOGOUT", "CRED_ACQ", "USER_AUTH"), "pid="+m.pid()+" uid=0 auid="+m.uid()+" ses="+m.ses()+" msg='op=x acct=\"joe\" terminal=ssh res=success'")
	default:
		m.sec -= pick[int64](m, 1, 3600, 90000, 400000) // somebody sets the clock
	}
}

func madeLog(rng *rand.Rand, steps int) string {
	m := &made{rng: rng, sec: 1700000000}
	for range steps {
		m.step()
	}
	return strings.Join(m.lines, "\n") + "\n"
}
