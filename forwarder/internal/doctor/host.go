package doctor

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// DefaultConfig is auditd.conf where no other is named.
const DefaultConfig = "/etc/audit/auditd.conf"

// configuration reads auditd.conf, which other checks need.
func (e *exam) configuration() {
	load := conf.LoadAuditdLinked // as run --config has it
	if e.Config == DefaultConfig {
		load = conf.LoadAuditd
	}
	c, f, err := load(e.path(e.Config))
	switch {
	case err == nil:
		e.auditd = c
	case errors.Is(err, fs.ErrPermission):
		e.unread = true
		e.unknown("configuration", err)
	case !errors.Is(err, fs.ErrNotExist):
		e.unread = true
		e.found("configuration", Fail, 88, mend(err), "%v", e.below(err))
	}
	_ = f // its warnings are the forwarder's to say
}

// mend is what to do about a configuration that can't be used: one that is no file of an
// administrator's has no line to be mended.
func mend(err error) string {
	switch u := (*fsys.UnsafeError)(nil); {
	case !errors.As(err, &u):
		return "mend the line; man forwarder.conf"
	case u.Fix != "":
		return u.Fix
	}
	return "put a regular file there, or take it away"
}

var errUnread = errors.New("auditd.conf could not be read")

// below leaves the root out of an error's text.
func (e *exam) below(err error) string {
	if e.Root == "" || e.Root == "/" {
		return err.Error()
	}
	return strings.ReplaceAll(err.Error(), e.Root, "")
}

// journald says whether systemd's journal switches auditing, or takes the records too. What
// stands behind "#" in journald.conf is what this journald was built with: Debian's has "no",
// and with that even a machine that was booted with audit=1 is not audited.
func (e *exam) journald() {
	value, from, there := "", "", false
	set := false // and not only built so
	for _, pattern := range []string{"/usr/lib/systemd/journald.conf", "/etc/systemd/journald.conf", "/usr/lib/systemd/journald.conf.d/*.conf", "/run/systemd/journald.conf.d/*.conf", "/etc/systemd/journald.conf.d/*.conf"} {
		files, err := filepath.Glob(e.path(pattern))
		if err != nil {
			continue // no pattern of ours is wrong
		}
		for _, file := range files {
			there = true
			b, err := fsys.ReadRegular(file, 1<<20)
			if err != nil {
				e.unknown("journald", err)
				return
			}
			for line := range strings.Lines(string(b)) {
				line = strings.TrimSpace(line)
				v, ok := strings.CutPrefix(line, "Audit=")
				if built, behind := strings.CutPrefix(line, "#Audit="); behind && !set && filepath.Base(file) == "journald.conf" {
					v, ok = built, true
				} else if ok {
					set = true
				}
				if ok {
					value, from = strings.ToLower(strings.TrimSpace(v)), strings.TrimPrefix(file, e.Root)
				}
			}
		}
	}
	switch {
	case !there:
		e.ok("journald", "no journald is configured here")
	case slices.Contains([]string{"no", "0", "false", "off"}, value):
		if !set {
			from += " (its default)"
		}
		e.found("journald", Fail, 76, "say Audit=yes in its section [Journal], then: systemctl restart systemd-journald, forwarder ctl -e 1", "Audit=%s in %s switches auditing off each time journald starts", value, from)
	case e.journalReads():
		e.found("journald", Warn, 12, "systemctl mask --now systemd-journald-audit.socket, if the journal need not have them", "journald reads the multicast group: the journal keeps every record, too")
	default:
		e.ok("journald", "it leaves auditing on and takes no records")
	}
}

// journalReads says whether a journald runs and somebody reads the multicast group.
func (e *exam) journalReads() bool {
	b, err := e.read("/proc/net/netlink")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		const audit = "9"
		f := strings.Fields(line)
		if len(f) < 4 || f[1] != audit {
			continue
		}
		if groups, err := strconv.ParseUint(f[3], 16, 32); err != nil || groups&1 == 0 {
			continue
		}
		// A socket's port is its process' id unless that was taken; the first process
		// holds journald's when it was made by the socket unit.
		name, err := e.read(path.Join("/proc", f[2], "comm"))
		if err == nil && (f[2] == "1" || strings.HasPrefix(string(name), "systemd-journal")) {
			return true
		}
	}
	return false
}

// clock says whether records have the time they should.
func (e *exam) clock() {
	now := e.Now()
	if y := now.Year(); y < 2024 || y > 2100 {
		e.found("clock", Fail, 82, "set the clock (timedatectl set-time) and have it kept: systemctl enable --now systemd-timesyncd, or chrony", "the year is %d: records can't be found by their time", y)
		return
	}
	if info, err := os.Stat(e.path(e.auditd.LogFile)); err == nil && info.ModTime().Sub(now) > time.Minute {
		e.found("clock", Warn, 58, "see that only one program sets the clock, and that it slews it", "the clock was set back: the log was written %s from now", info.ModTime().Sub(now).Round(time.Second))
	}
	switch synchronised, err := e.Clock(); {
	case err != nil:
		e.unknown("clock", err)
	case !synchronised:
		e.found("clock", Warn, 35, "systemctl enable --now systemd-timesyncd, or chrony", "the clock is not synchronised: hosts' records can't be put in order")
	default:
		e.ok("clock", "it is synchronised")
	}
}

// servers lists where records are shipped.
func (e *exam) servers() []string {
	if len(e.Remote) > 0 {
		return e.Remote
	}
	c, _, err := conf.LoadRemote(e.path(e.RemoteConfig))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, fs.ErrPermission):
		e.unknown("collector", err)
		return nil
	case err != nil:
		e.found("collector", Fail, 87, mend(err), "%s", e.below(err))
		return nil
	}
	var list []string
	for _, s := range c.Servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			s = net.JoinHostPort(strings.Trim(s, "[]"), strconv.Itoa(c.Port))
		}
		list = append(list, s)
	}
	return list
}

// patience is how long one name or one server may take, and all servers together:
// so many are tried at once, and those that had no turn by then count as away.
const (
	patience = 5 * time.Second
	atOnce   = 32
)

// collectors tries the servers.
func (e *exam) collectors() {
	servers := e.servers()
	if len(servers) == 0 {
		if !slices.ContainsFunc(e.findings, func(f Finding) bool { return f.Check == "collector" }) {
			e.found("collector", Warn, 42, "name it: --remote HOST:60, or remote_server in "+e.RemoteConfig, "no collector is named: records stay on this host")
		}
		return
	}
	ctx, cancel := context.WithTimeout(e.ctx, patience)
	defer cancel()
	tried := make([]*Finding, len(servers)) // nil: reached
	turns := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, address := range servers {
		turns <- struct{}{}
		wg.Go(func() {
			tried[i] = e.try(ctx, address)
			<-turns
		})
	}
	wg.Wait()
	reached := 0
	var wrong []Finding
	for i, f := range tried {
		if f != nil {
			wrong = append(wrong, *f)
			continue
		}
		reached++
		e.ok("collector", "%s takes connections", servers[i])
	}
	for _, f := range wrong {
		f.State = Fail
		if reached > 0 { // another one takes the records
			f.State, f.Weight = Warn, 43
		}
		e.findings = append(e.findings, f)
	}
}

// try says what keeps a server from being reached; nil: nothing.
func (e *exam) try(ctx context.Context, address string) *Finding {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return &Finding{Check: "collector", Weight: 90, What: err.Error(), Fix: "write HOST:PORT"}
	}
	if net.ParseIP(host) == nil {
		if _, err := e.Lookup(ctx, host); err != nil {
			return &Finding{Check: "resolve", Weight: 90, What: host + " has no address: " + err.Error(), Fix: "mend the name, DNS or /etc/hosts, or write the address"}
		}
	}
	if err := e.Connect(ctx, address); err != nil {
		return &Finding{Check: "collector", Weight: 90, What: address + " can't be reached: " + err.Error(), Fix: "start the collector there, or open its port in the firewall: nc -vz " + strings.Replace(address, ":", " ", 1)}
	}
	return nil
}

// names says whether the host's records can be told from those of others.
func (e *exam) names() {
	name, err := e.Name()
	if err != nil {
		e.unknown("name", err)
		return
	}
	if e.unread {
		e.unknown("name", errUnread)
		return
	}
	own := name
	if e.auditd.NameFormat == conf.NameUser {
		own = e.auditd.Name
	}
	const fix = "hostnamectl set-hostname NAME, or name_format = user and name = NAME in auditd.conf"
	switch {
	case own == "" || own == "(none)" || own == "localhost" || strings.HasPrefix(own, "localhost."):
		e.found("name", Warn, 46, fix, "this host is called %q, as others are: their records can't be told apart", own)
	case e.auditd.NameFormat == conf.NameNone:
		e.found("name", Warn, 22, "name_format = hostname in auditd.conf, or --node NAME", "name_format is none: records carry no node=, and behind NAT hosts can't be told apart")
	default:
		if e.auditd.NameFormat == conf.NameFQD || e.auditd.NameFormat == conf.NameNumeric {
			ctx, cancel := context.WithTimeout(e.ctx, patience)
			defer cancel()
			if _, err := e.Lookup(ctx, name); err != nil {
				e.found("name", Fail, 72, "put it into DNS or /etc/hosts, or name_format = hostname", "%s has no address, and name_format = %s needs one: the forwarder won't start", name, strings.ToLower(string(e.auditd.NameFormat)))
				return
			}
		}
		e.ok("name", "records carry node=%s", own)
	}
}

// unit says whether something starts the forwarder.
func (e *exam) unit() {
	has := func(pattern string) bool {
		files, err := filepath.Glob(e.path(pattern))
		return err == nil && len(files) > 0
	}
	ours, auditd := has("/etc/systemd/system/*.wants/auditfleet-forwarder.service"), has("/etc/systemd/system/*.wants/auditd.service")
	plugin, _, err := conf.LoadPlugin(e.path("/etc/audit/plugins.d/au-fleet.conf"))
	active := err == nil && plugin.Active
	switch {
	case ours && auditd:
		e.found("unit", Warn, 52, "systemctl disable auditd, or auditfleet-forwarder", "auditd and auditfleet-forwarder are both started at the boot: only one can be the audit daemon")
	case ours:
		e.ok("unit", "auditfleet-forwarder.service is enabled")
	case active:
		e.ok("unit", "auditd starts the forwarder as its plugin au-fleet.conf")
	case err == nil:
		e.found("unit", Warn, 41, "systemctl enable --now auditfleet-forwarder, or active = yes in au-fleet.conf, then auditctl --signal reconfig", "nothing starts the forwarder at the boot: its unit is not enabled, and auditd's plugin au-fleet.conf is not active")
	case errors.Is(err, fs.ErrPermission):
		e.unknown("unit", err)
	case !errors.Is(err, fs.ErrNotExist):
		e.found("unit", Fail, 71, "mend it; man auditd-plugins", "auditd does not start its plugin: %s", e.below(err))
	default:
		e.found("unit", Warn, 41, "systemctl enable --now auditfleet-forwarder, or au-fleet.conf into /etc/audit/plugins.d", "nothing starts the forwarder at the boot")
	}
}
