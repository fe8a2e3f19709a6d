package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// Nobody subscribes, which is mosquitto's best case: it acknowledges and has
// nothing to keep. It never syncs before an acknowledgement.
const mosquittoConf = `
listener PORT 127.0.0.1
allow_anonymous true
user root
persistence true
persistence_location DIR/
max_inflight_messages 0
log_dest stderr
log_type error
`

// Mosquitto starts Debian's mosquitto with persistence on.
func Mosquitto(ctx context.Context, parent string) (*Server, error) {
	program, err := findMosquitto(ctx)
	if err != nil {
		return nil, err
	}
	dir, addr, conf, err := prepare(parent, "mosquitto", mosquittoConf)
	if err != nil {
		return nil, err
	}
	return start(ctx, Server{Name: "mosquitto", Addr: addr}, dir, program, "-c", conf)
}

// findMosquitto installs the package as root where there is apt-get, without
// letting it start the service.
func findMosquitto(ctx context.Context) (string, error) {
	const sbin = "/usr/sbin/mosquitto" // often not on the path
	if _, err := os.Stat(sbin); err == nil {
		return sbin, nil
	}
	if program, err := exec.LookPath("mosquitto"); err == nil {
		return program, nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return "", errors.New("mosquitto is missing: install it (Debian: sudo apt-get install mosquitto) and try again")
	}
	for _, args := range [][]string{{"update", "-q"}, {"install", "-q", "-y", "--no-install-recommends", "mosquitto"}} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1") // runlevel 1: start no service
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("apt-get %v: %w\n%s", args, err, out)
		}
	}
	return sbin, nil
}
