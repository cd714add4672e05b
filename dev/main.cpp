#include <CLI/CLI.hpp>

int main(int argc, char** argv) {
  CLI::App app{"A whole Mesos-like cluster on one machine: master, nodes, tasks and muster."};
  app.add_subcommand("exec", "Run a command on a node");
  app.add_subcommand("ps", "Show nodes and tasks");
  app.add_subcommand("logs", "Show what a task or a node's muster printed");
  app.add_subcommand("kill", "Kill a task");
  app.add_subcommand("scale", "Change how many instances an app has");
  app.add_subcommand("kill-agent", "Kill -9 the muster daemon of a node");
  app.add_subcommand("start-agent", "Start the muster daemon of a node again");
  app.add_subcommand("master", "Take the Mesos master away, or bring it back");
  app.add_subcommand("wait", "Wait until every app runs and every node is ready");
  app.add_subcommand("stop", "Stop the cluster");
  app.add_subcommand("serve", "A tiny server that says which task answered");
  app.add_subcommand("load", "Open-loop load, one connection per request");
  CLI11_PARSE(app, argc, argv);
  return 0;
}
