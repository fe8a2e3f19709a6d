package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/tributary-edge/tributary/edge/config"
)

// defaultConfig is where the packages put the configuration.
const defaultConfig = "/etc/tributary/tributary.toml"

func configFlag(c *cobra.Command, path *string) {
	c.Flags().StringVarP(path, "config", "c", defaultConfig, "configuration file")
}

func setFlag(c *cobra.Command, in *config.Input) {
	c.Flags().StringArrayVar(&in.Set, "set", nil, "set a key, such as kafka.linger=5s, whatever the configuration says; lists with commas")
}

func checkCommand() *cobra.Command {
	in := config.Input{Environ: os.Environ()}
	var o config.CheckOptions
	c := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Find every mistake in the configuration; only reads, changes nothing",
		Long: "Finds every mistake in a configuration at once: in the file, in the files of conf.d beside it, in the variables\n" +
			"TRIBUTARY_SECTION__KEY of the environment and in --set. What comes later replaces what came before, and check\n" +
			"says so. It reads these files and nothing else. Exit code 0: good, 1: errors, 3: warnings only.",
		Example: "  tributary check -c tributary.toml\n  tributary check --effective --set kafka.linger=5s\n" +
			"  tributary check --json | jq '.problems[] | select(.severity == \"error\")'",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				in.Path = args[0]
			}
			if code := config.Check(cmd.OutOrStdout(), in, o); code != 0 {
				return exit(code)
			}
			return nil
		},
	}
	configFlag(c, &in.Path)
	setFlag(c, &in)
	c.Flags().BoolVar(&o.Effective, "effective", false, "print every value in force, with where it comes from")
	c.Flags().BoolVar(&o.JSON, "json", false, "print JSON")
	return c
}

// loadConfig reads the configuration and prints what is wrong with it.
func loadConfig(path string, stderr io.Writer) (*config.Config, error) {
	read, err := loadInput(&config.Input{Path: path, Environ: os.Environ()}, stderr)
	if err != nil {
		return nil, err
	}
	return read.Config, nil
}

// loadInput is loadConfig of more than a path.
func loadInput(in *config.Input, stderr io.Writer) (*config.Reading, error) {
	read, err := in.Read()
	if err != nil {
		return nil, err
	}
	for _, p := range read.Problems {
		fmt.Fprintln(stderr, p)
	}
	if read.Config == nil {
		return read, fmt.Errorf("the configuration %s has errors; nothing was started or changed", in.Path)
	}
	return read, nil
}

// loadToRun is loadInput for a start: if there is an error and lastGood is set, it
// returns the last good configuration, and what is wrong with the other.
func loadToRun(in *config.Input, lastGood bool, stderr io.Writer) (read *config.Reading, broken string, err error) {
	read, err = loadInput(in, stderr)
	if err == nil || !lastGood {
		return read, "", err
	}
	broken = err.Error()
	if read != nil {
		broken = read.FirstError()
	}
	read, lastErr := in.LastGood(read)
	if lastErr != nil {
		return nil, "", fmt.Errorf("%w. --last-good-on-error: %w", err, lastErr)
	}
	return read, broken, nil
}
