package report

// Usage is the help text. It lists aureport's options in this project's words.
const Usage = `usage: report [options]        (without a report: the summary of all)
 reports
  -au, --auth              authentications          -l,  --login        logins
  -m,  --mods              changes to accounts      -u,  --user         by user
  -a,  --avc               decisions of SELinux     -ma, --mac          changes of policy and labels
       --comm              commands                 -x,  --executable   programs
  -f,  --file              files and sockets        -s,  --syscall      system calls
  -p,  --pid               processes                -k,  --key          rules' keys
  -tm, --terminal          terminals                     --tty          what was typed
  -h,  --host              remote hosts             -c,  --config       changes of configuration
  -n,  --anomaly           anomalies                -r,  --response     responses to anomalies
       --integrity         file integrity           -cr, --crypto       keys and sessions
       --virt              virtual machines         -e,  --event        all events
  -t,  --log               first and last time of each log
       --summary           how often each value is in the report, the most frequent first
 which events
       --failed  --success      only those that failed, or succeeded
       --add     --delete       of accounts, groups and labels, only what was added, or deleted
  -nc, --no-config              no changes of audit's own configuration
       --node NAME[,NAME]       of this machine: names or patterns (web*); may be repeated
  -ts, --start [DATE] [TIME]    not before; -te, --end [DATE] [TIME]: not after
                                DATE as the locale writes it (LC_TIME) or as 2026-11-28, or now, recent, this-hour, boot,
                                today, yesterday, tomorrow, this-week, week-ago, this-month, this-year; TIME is HH:MM[:SS];
                                or one of 2026-11-28T14:04:05Z, -1h, "2 hours ago" and @SECONDS since 1970
       --field NAME=VALUE       of events that such a search finds: NAME~REGEXP, NAME!=VALUE, NAME>=NUMBER
       --expression EXPRESSION  of events that it holds for, as ausearch-expression(5) has it; both may be repeated
 counted otherwise
       --by FIELD[,FIELD]       events by the values of fields, of all events or those of the report named:
                                node (the machine), type, key, pid, ppid, auid, uid, euid, gid, egid, ses, syscall,
                                arch, success, exit, comm, exe, file, host (the remote one), terminal, subject,
                                object, acct, uuid, vm, and of enriched records auid-name, uid-name, euid-name,
                                gid-name, egid-name
       --every TIME             and by time: 90s, 15m, 1h, 1d, 1w
       --top N                  the N largest groups, or values of a summary
 written otherwise
       --format table|csv|json  every report; without it, as aureport prints it
       --csv-safe               csv with ' before cells that a spreadsheet would run as formulas (= + - @)
 results
  -i,  --interpret              names instead of numbers
       --escape raw|tty|shell|shell_quote
       --no-pager               on a terminal, too
 input
  -if, --input FILE|FOLDER      instead of the log;  --input-logs: the log or store even when stdin is a pipe
       --eoe-timeout SECONDS    how long an event may be incomplete
       --debug                  say what was skipped
       --help   -v, --version
`
