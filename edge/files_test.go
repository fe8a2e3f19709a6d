package edge

import (
	"strings"
	"testing"

	"github.com/tributary-edge/tributary/edge/config"
)

// Each file that is wrong is told of, those of the door and those of Kafka.
func TestReadFiles(t *testing.T) {
	cfg := &config.Config{}
	if err := ReadFiles(cfg); err != nil {
		t.Fatalf("no files: %v", err)
	}
	cfg.MQTT.PasswordFile = t.TempDir() + "/passwd"
	cfg.Kafka.TLS, cfg.Kafka.CAFile = true, t.TempDir()+"/ca.crt"
	err := ReadFiles(cfg)
	for _, want := range []string{"passwd", "[kafka] ca_file"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not speak of %s", err, want)
		}
	}
}
