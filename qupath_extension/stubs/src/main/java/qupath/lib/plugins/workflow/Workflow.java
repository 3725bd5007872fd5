package qupath.lib.plugins.workflow;

public class Workflow {

    private Workflow() {
    }

    public void addStep(WorkflowStep step) {
    }
}
