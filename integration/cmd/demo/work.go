package main

import (
	"fmt"
	"math/rand/v2"
)

// session is a person's, over ssh.
func session(who account, ses uint32, pid int, tty string) process {
	return process{login: who, user: who, ses: ses, ppid: pid - 1, pid: pid, tty: tty, exe: "/usr/bin/bash", cwd: "/home/" + who.name}
}

// service is a process that nobody has logged in for.
func service(who account, pid int, exe string) process {
	return process{login: nobody, user: who, ses: ^uint32(0), ppid: 1, pid: pid, tty: "(none)", exe: exe, cwd: "/"}
}

// work is one thing that happens on a host on any day.
func work(rnd *rand.Rand, host string) []string {
	pid := 2000 + rnd.IntN(28000)
	switch rnd.IntN(6) {
	case 0:
		return service(root, pid, "/usr/sbin/cron").says("USER_ACCT", `op=PAM:accounting grantors=pam_permit acct="root" exe="/usr/sbin/cron" hostname=? addr=? terminal=cron res=success`)
	case 1:
		unit := []string{"apt-daily", "logrotate", "man-db", "systemd-tmpfiles-clean"}[rnd.IntN(4)]
		return service(root, 1, "/usr/lib/systemd/systemd").says("SERVICE_START", `unit=%s comm="systemd" exe="/usr/lib/systemd/systemd" hostname=? addr=? terminal=? res=success`, unit)
	case 2:
		return service(root, pid, "/usr/bin/run-parts").exec("run-parts", "/etc/cron.hourly")
	}
	switch host {
	case "web1", "web2":
		p := service(daemon, pid, "/usr/sbin/nginx")
		return p.open(fmt.Sprintf("/srv/www/upload/%d.jpg", rnd.IntN(9000)), "0100644", 9, "www", daemon, "nginx: worker process")
	case "db1":
		return service(pgsql, pid, "/usr/bin/pg_dump").exec("pg_dump", "--format=custom", fmt.Sprintf("shop%d", rnd.IntN(4)))
	case "build1":
		who := []account{alice, bob}[rnd.IntN(2)]
		p := session(who, 30+who.id, pid, "pts1")
		argv := [][]string{{"/usr/bin/make", "-j8"}, {"/usr/bin/gcc", "-O2", "-c", "shop.c"}, {"/usr/bin/git", "fetch", "origin"}, {"/usr/bin/go", "build", "./..."}}[rnd.IntN(4)]
		p = p.run(pid+1, argv[0])
		return p.exec(append([]string{p.comm()}, argv[1:]...)...)
	}
	return service(root, pid, "/usr/sbin/sshd").exec("sshd", "-D", "-R")
}

// sshd is the server's process of a session.
func sshd(who account, ses uint32, pid int) process {
	return process{login: who, user: root, ses: ses, ppid: 812, pid: pid, tty: "(none)", exe: "/usr/sbin/sshd", cwd: "/"}
}
